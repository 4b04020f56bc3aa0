#!/bin/sh

for script in /.singularity.d/env/*.sh; do
    if [ -f "$script" ]; then
        . "$script"
    fi
done

if [ -n "${SINGULARITY_APPNAME:-}" ]; then
    for app in "$SINGULARITY_APPNAME" singularity; do
        if [ -x "/scif/apps/$app/scif/test" ]; then
            exec "/scif/apps/$app/scif/test" "$@"
        fi
    done
    echo "No tests for contained app: $SINGULARITY_APPNAME" >&2
    exit 1
fi

if [ -x /.singularity.d/test ]; then
    exec /.singularity.d/test "$@"
fi

echo "No test found in container, executing /bin/sh -c true"
exec /bin/sh -c true
