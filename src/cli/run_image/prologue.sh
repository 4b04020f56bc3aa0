case "$0" in /proc/self/fd/[3-9]) eval "exec ${0##*/}<&-" ;; esac
# Shells set it themselves.
unset PS1
sifbuild_inject() {
sifbuild_injected=1
@INJECT@
}
sifbuild_injected=
sifbuild_path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
if [ -d /.singularity.d/env ]; then
    for sifbuild_script in /.singularity.d/env/*.sh; do
        [ -f "$sifbuild_script" ] || continue
        case "$sifbuild_script" in
            */90-environment.sh) [ -n "${PATH+x}" ] || export PATH="$sifbuild_path" ;;
        esac
        . "$sifbuild_script"
        case "$sifbuild_script" in
            */10-docker2singularity.sh|*/10-docker.sh)
                for sifbuild_directory in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do
                    case ":$PATH:" in
                        *":$sifbuild_directory:"*) ;;
                        *) export PATH="$PATH:$sifbuild_directory" ;;
                    esac
                done
                ;;
            */99-base.sh) sifbuild_inject ;;
        esac
    done
elif [ -f /environment ]; then
    . /environment
fi
if [ -z "$sifbuild_injected" ]; then
    sifbuild_inject
    PATH="${SING_USER_DEFINED_PREPEND_PATH:+$SING_USER_DEFINED_PREPEND_PATH:}$PATH${SING_USER_DEFINED_APPEND_PATH:+:$SING_USER_DEFINED_APPEND_PATH}"
    export PATH="${SING_USER_DEFINED_PATH:-$PATH}"
fi
unset SING_USER_DEFINED_PREPEND_PATH SING_USER_DEFINED_APPEND_PATH SING_USER_DEFINED_PATH
unset sifbuild_script sifbuild_injected sifbuild_path sifbuild_directory
unset -f sifbuild_inject
@RESTORE@
