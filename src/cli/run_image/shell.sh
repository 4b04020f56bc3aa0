if [ -n "${APPTAINER_SHELL:-}" ]; then
    if [ -x "$APPTAINER_SHELL" ]; then
        export SHELL="$APPTAINER_SHELL"
        exec "$APPTAINER_SHELL" "$@"
    fi
    echo "ERROR:   $APPTAINER_SHELL: not found in the container" >&2
    exit 255
fi
if [ -x /bin/bash ]; then
    export SHELL=/bin/bash
    exec /bin/bash --norc "$@"
fi
export SHELL=/bin/sh
exec /bin/sh "$@"
