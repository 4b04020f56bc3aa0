case "$1" in
    */*)
        if [ ! -e "$1" ]; then
            echo "ERROR:   $1: no such file or directory in the container" >&2
            exit 255
        elif [ -d "$1" ] || [ ! -x "$1" ]; then
            echo "ERROR:   $1: permission denied" >&2
            exit 255
        fi
        ;;
    *)
        sifbuild_ifs="$IFS"
        IFS=:
        for sifbuild_directory in $PATH; do
            [ ! -x "$sifbuild_directory/$1" ] || [ -d "$sifbuild_directory/$1" ] || break
            sifbuild_directory=
        done
        IFS="$sifbuild_ifs"
        if [ -z "$sifbuild_directory" ]; then
            echo "ERROR:   \"$1\": executable file not found in \$PATH of the container" >&2
            exit 255
        fi
        unset sifbuild_ifs sifbuild_directory
        ;;
esac
exec "$@"
