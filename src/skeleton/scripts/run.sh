#!/bin/sh

for script in /.singularity.d/env/*.sh; do
    if [ -f "$script" ]; then
        . "$script"
    fi
done

if [ -n "${SINGULARITY_APPNAME:-}" ]; then
    for app in "$SINGULARITY_APPNAME" singularity; do
        if [ -x "/scif/apps/$app/scif/runscript" ]; then
            exec "/scif/apps/$app/scif/runscript" "$@"
        fi
    done
    echo "No Apptainer runscript for contained app: $SINGULARITY_APPNAME" >&2
    exit 1
fi

if [ -x /.singularity.d/runscript ]; then
    exec /.singularity.d/runscript "$@"
fi

echo "No Apptainer runscript found, executing /bin/sh" >&2
exec /bin/sh "$@"
