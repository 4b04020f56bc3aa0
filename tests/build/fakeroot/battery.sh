# Everything that a distribution's packages and administrators do as root. Run in %post on Debian; prints "NAME ok" or "NAME FAILED" a check.
# Each is told by what can be seen afterwards, never by an exit status alone.
set +e +x
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
check() { name=$1; shift; if ("$@") >/var/log/check 2>&1; then echo "check: $name ok"; else echo "check: $name FAILED"; sed 's/^/   /' /var/log/check; fi; rm -f /var/log/check; }
is() { [ "$1" = "$2" ] || { echo "is '$1', not '$2'"; return 1; }; }
refused() { ! "$@"; }
shows() { file=$1; shift; is "$(stat -c '%u:%g %a' "$file")" "$*"; }
installed() { dpkg-query -W -f='${Status}' "$1" | grep -q 'ok installed'; }
package() { apt-get install -y --no-install-recommends "$1" && installed "$1"; }
as() { su -s /bin/sh "$1" -c "$2"; }

# Packages, as they are.
check apt-update apt-get update
for name in openssh-client cron sudo postfix postgresql redis iputils-ping man-db tcpdump makedev plocate rpm attr acl libcap2-bin gcc libc6-dev rsync python3-minimal git dbus; do
  check "install-$name" package $name
done
audit() { is "$(dpkg --audit)" ""; }
check dpkg-audit audit
ping_file() { getcap /usr/bin/ping | grep -q cap_net_raw=ep; }
check ping-capability ping_file
check crontab-group shows /usr/bin/crontab "0:$(getent group crontab | cut -d: -f3) 2755"
check ssh-agent-group shows /usr/bin/ssh-agent "0:$(getent group _ssh | cut -d: -f3) 2755"
check shadow shows /etc/shadow 0:42 640
check postgres-home sh -c 'stat -c %U /var/lib/postgresql | grep -qx postgres'
check postgres-cluster sh -c 'find /var/lib/postgresql -user postgres -name PG_VERSION | grep -q .'
check redis-log sh -c 'stat -c %U:%G /var/log/redis | grep -qx redis:adm'
check postfix-maildrop sh -c 'stat -c "%U:%G %a" /var/spool/postfix/maildrop | grep -qx "postfix:postdrop 1730"'

# Users and groups.
adds() { useradd -m -u 1234 -s /bin/sh ann && shows /home/ann 1234:1234 755 && shows /home/ann/.profile 1234:1234 644; }
check useradd-home adds
check useradd-keeps-shadow shows /etc/shadow 0:42 640
group() { groupadd -g 2345 crew && usermod -aG crew ann && as ann 'id -G' | grep -qw 2345; }
check group-membership group
check passwd sh -c 'echo ann:x | chpasswd && grep -q "^ann:.y." /etc/shadow'
check userdel sh -c 'useradd -m tmp && userdel -r tmp && ! test -e /home/tmp && ! getent passwd tmp'

# Owners and modes.
mkdir /c
cd /c
owner() { touch a && chown 3:4 a && shows a 3:4 664; }
check chown owner
check chown-name sh -c 'touch n && chown ann:crew n && stat -c %U:%G n | grep -qx ann:crew'
check chgrp sh -c 'touch g && chgrp 42 g && stat -c %g g | grep -qx 42'
link() { ln -s a l && chown -h 7:8 l && shows l 7:8 777 && shows a 3:4 664; }
check chown-link link
clears() { touch s && chmod 6755 s && chown 5:5 s && shows s 5:5 755; }
check chown-clears-set-id clears
keeps() { touch k && chown 5:5 k && chmod 6755 k && shows k 5:5 6755; }
check chmod-set-id keeps
tree() { mkdir -p t/u/v && touch t/u/v/w && chown -R 9:9 t && is "$(find t ! -user 9 | wc -l)" 0; }
check chown-recursive tree
renames() { touch r && chown 11:12 r && mv r r2 && shows r2 11:12 664 && ln r2 r3 && shows r3 11:12 664 && rm r2 && shows r3 11:12 664; }
check rename-and-link renames
reuse() { for i in 1 2 3 4 5 6 7 8; do touch i$i; chown 13:13 i$i; rm i$i; touch j$i; shows j$i 0:0 664 || return 1; done; }
check number-used-again reuse
copy() { touch p && chown 21:22 p && cp -a p p2 && shows p2 21:22 664; }
check cp-a copy
archives() { tar -cf x.tar p l k && mkdir x && tar -xpf x.tar -C x --same-owner && shows x/p 21:22 664 && shows x/k 5:5 6755 && shows x/l 7:8 777; }
check tar archives
check rsync sh -c 'rsync -a p p3 && stat -c %u:%g p3 | grep -qx 21:22'
check install sh -c 'install -o ann -g crew -m 4750 /bin/true inst && stat -c "%U:%G %a" inst | grep -qx "ann:crew 4750"'
override() { touch so && dpkg-statoverride --update --add ann crew 0640 /c/so && shows so 1234:2345 640; }
check dpkg-statoverride override
gives() { mkdir d && chown 0:2345 d && chmod 2775 d && touch d/f && mkdir d/e && shows d/f 0:2345 664 && shows d/e 0:2345 2775; }
check set-group-id-directory gives
python() { python3 -c 'import os; open("py","w").close(); os.chown("py",31,32); s=os.stat("py"); assert (s.st_uid,s.st_gid)==(31,32); fd=os.open("py",os.O_RDONLY); os.fchown(fd,33,-1); assert os.fstat(fd).st_uid==33; os.chown("l",1,2,follow_symlinks=False)'; }
check python-chown python
high() { touch h && chown 4000000:3000000 h && shows h 4000000:3000000 664; }
check high-ids high
check git sh -c 'git init -q repo && cd repo && git -c user.name=a -c user.email=b commit -q --allow-empty -m x && git status'
mounts() { chown 0:0 /proc /dev && chmod 555 /proc; }
check chown-of-mounts mounts
check mounts-belong-to-root sh -c 'stat -c %u:%g /proc /sys /dev | sort -u | grep -qx 0:0'

# Devices.
char() { mknod null c 1 3 && test -c null && is "$(stat -c '%t %T' null)" "1 3"; }
check mknod-character char
block() { mknod -m 660 disk b 8 1 && chown 0:6 disk && test -b disk && shows disk 0:6 660; }
check mknod-block block
check mknod-fifo sh -c 'mknod pipe p && test -p pipe'
copies() { cp -a null null2 && test -c null2 && tar -cf y.tar null && mkdir y && tar -xf y.tar -C y && test -c y/null; }
check device-copies copies
check device-find sh -c 'find . -type c | grep -q null'

# Attributes.
check setcap sh -c 'cp /bin/true cap && setcap cap_net_bind_service+ep cap && getcap cap | grep -q cap_net_bind_service=ep'
check setcap-remove sh -c 'cp /bin/true cap2 && setcap cap_net_raw+p cap2 && setcap -r cap2 && test -z "$(getcap cap2)"'
check user-attribute sh -c 'setfattr -n user.a -v 1 a && getfattr -n user.a --only-values a | grep -qx 1'
check trusted-attribute sh -c 'setfattr -n trusted.a -v 2 a && getfattr -n trusted.a --only-values a | grep -qx 2'
check trusted-listed sh -c 'getfattr -d -m - a | grep -q trusted.a'
check trusted-removed sh -c 'touch a2 && setfattr -n trusted.b -v 1 a2 && setfattr -x trusted.b a2 && ! getfattr -n trusted.b a2'
check acl sh -c 'touch acl && setfacl -m u:ann:rw acl && getfacl -n acl | grep -qx user:1234:rw- && setfacl -b acl && ! getfacl -n acl | grep -q 1234'

# Identity.
check id sh -c 'test "$(id -u)" = 0 && test "$(id -G)" = 0'
check su sh -c 'test "$(su -s /bin/sh ann -c "id -u")" = 1234'
check su-login sh -c 'test "$(su - ann -c pwd)" = /home/ann'
check runuser sh -c 'test "$(runuser -u ann -- id -un)" = ann'
check setpriv sh -c 'test "$(setpriv --reuid 1234 --regid 2345 --clear-groups id -u)" = 1234'
check setpriv-capabilities sh -c 'setpriv --reuid 1234 --regid 2345 --clear-groups --inh-caps -all id'
files() { as ann 'touch /home/ann/f; mkdir /home/ann/d; ln -s f /home/ann/l; mkfifo /home/ann/p' && shows /home/ann/f 1234:1234 664 && shows /home/ann/d 1234:1234 775 && shows /home/ann/l 1234:1234 777 && shows /home/ann/p 1234:1234 664; }
check files-of-a-user files
check user-may-not-chown refused su -s /bin/sh ann -c 'chown 0 /home/ann/f'
check user-may-not-chmod-others refused su -s /bin/sh ann -c 'chmod 777 /c/a'
check user-may-not-write-elsewhere refused su -s /bin/sh ann -c 'touch /etc/x'
check user-may-not-become-root refused su -s /bin/sh ann -c 'setpriv --reuid 0 true'
check a-missing-name-is-missing su -s /bin/sh ann -c 'rm -f /etc/none && rmdir --ignore-fail-on-non-empty /etc/none 2>&1 | grep -q "No such file"'
check a-namespace-gives-no-power refused su -s /bin/sh ann -c 'unshare -Ur chown 5 /c/a'
sticky() { touch /tmp/mine && refused as ann 'rm -f /tmp/mine' && test -e /tmp/mine; }
check sticky-directory sticky
check user-access refused su -s /bin/sh ann -c 'test -w /etc/passwd'
check user-own-access su -s /bin/sh ann -c 'test -w /home/ann/f'
check sudo sh -c 'echo "ann ALL=(ALL) NOPASSWD: ALL" > /etc/sudoers.d/ann && chmod 440 /etc/sudoers.d/ann && test "$(su -s /bin/sh ann -c "sudo -n id -u")" = 0'
check sudo-to-a-user sh -c 'test "$(sudo -u ann id -un)" = ann'
setuid() { printf '#include <unistd.h>\n#include <stdio.h>\nint main(void){printf("%%d %%d %%d\\n",getuid(),geteuid(),getegid());return 0;}' > w.c && gcc -static -o w w.c && chown 77:78 w && chmod 6755 w && is "$(as ann ./w)" "1234 77 78" && is "$(./w)" "0 77 78"; }
check set-id-program setuid
dropped() { printf '#include <unistd.h>\n#include <grp.h>\nint main(void){if(setgroups(0,0)||setgid(9)||setuid(9))return 1;if(!setuid(0)||!seteuid(0)||!setgid(0))return 2;return getuid()!=9||geteuid()!=9||getgid()!=9;}' > z.c && gcc -o z z.c && ./z; }
check privileges-dropped-for-good dropped
check postgres-runs sh -c 'su postgres -c "/usr/lib/postgresql/*/bin/initdb -D /tmp/pg >/dev/null && /usr/lib/postgresql/*/bin/pg_ctl -D /tmp/pg -o \"-k /tmp -c listen_addresses=\" -w start >/dev/null && psql -h /tmp -c \"select 1\" && /usr/lib/postgresql/*/bin/pg_ctl -D /tmp/pg -w stop"'

# Roots within the root.
inner() { mkdir -p in/bin && cp w in/bin/w && cp /bin/busybox in/bin/ 2>/dev/null; chown 41:42 in/bin/w; chmod 755 in/bin/w; is "$(chroot in /bin/w)" "0 0 0" && shows in/bin/w 41:42 755; }
check chroot inner
check chroot-debian sh -c 'mkdir -p big && mkdir -p big/usr/bin big/usr/lib big/etc; cp -a /lib64 big/; cp -a /usr/lib64 big/usr/; ln -s usr/lib big/lib; cp -a /usr/bin/chown /usr/bin/stat /usr/bin/touch big/usr/bin/; cp -a /usr/lib/x86_64-linux-gnu big/usr/lib/; cp /etc/passwd big/etc; chroot big /usr/bin/touch /x && chroot big /usr/bin/chown 51:52 /x && test "$(chroot big /usr/bin/stat -c %u:%g /x)" = 51:52 && test "$(stat -c %u:%g big/x)" = 51:52; s=$?; rm -rf big; exit $s'
check mount-namespace sh -c 'unshare -m sh -c "mount -t tmpfs none /mnt && touch /mnt/x && chown 3:3 /mnt/x && test \"\$(stat -c %u /mnt/x)\" = 3"'
check rpm-build-in sh -c 'rpm --eval %_topdir'

rm -rf /c /home/ann/p /tmp/pg
cd /
