if [ -n "${SINGULARITY_APPNAME:-}" ]; then
    for sifbuild_app in "$SINGULARITY_APPNAME" singularity; do
        if [ -x "/scif/apps/$sifbuild_app/scif/test" ]; then
            set -- "/scif/apps/$sifbuild_app/scif/test" "$@"
            unset sifbuild_app
            exec "$@"
        fi
    done
    echo "ERROR:   No tests for contained app: $SINGULARITY_APPNAME" >&2
    exit 1
fi
if [ -x /.singularity.d/test ]; then
    exec /.singularity.d/test "$@"
fi
echo "INFO:    No test script found in container, exiting" >&2
exit 0
