if [ -n "${SINGULARITY_APPNAME:-}" ]; then
    for sifbuild_app in "$SINGULARITY_APPNAME" singularity; do
        if [ -x "/scif/apps/$sifbuild_app/scif/runscript" ]; then
            set -- "/scif/apps/$sifbuild_app/scif/runscript" "$@"
            unset sifbuild_app
            exec "$@"
        fi
    done
    echo "ERROR:   No runscript for contained app: $SINGULARITY_APPNAME" >&2
    exit 1
fi
for sifbuild_program in /.singularity.d/runscript /apptainer /singularity; do
    if [ -x "$sifbuild_program" ]; then
        set -- "$sifbuild_program" "$@"
        unset sifbuild_program
        exec "$@"
    fi
done
echo "WARNING: No runscript found in container, executing /bin/sh" >&2
unset sifbuild_program
exec /bin/sh "$@"
