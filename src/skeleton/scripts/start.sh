#!/bin/sh

# Process 1 of an instance waits until it is continued.
kill -CONT 1

for script in /.singularity.d/env/*.sh; do
    if [ -f "$script" ]; then
        . "$script"
    fi
done

if [ -x /.singularity.d/startscript ]; then
    exec /.singularity.d/startscript "$@"
fi
