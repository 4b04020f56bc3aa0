//! What both programs build: `DIR/` is the directory of the test, `HOST` a registry.

const PLAIN: &str = "Bootstrap: oci-archive\nFrom: DIR/base.tar\n";

pub const FULL: &str = r#"Bootstrap: oci-archive
From: DIR/base.tar

%files
    DIR/host/data.txt /srv/data.txt
    DIR/host/tree /opt/tree
    DIR/host/tree/* /opt/matched/

%post
    echo "label-of-post from post" >> "$APPTAINER_LABELS"
    echo 'export FROM_POST="a b"' >> "$APPTAINER_ENVIRONMENT"
    echo made > /srv/made
    chmod 4711 /srv/made
    echo linked > /srv/linked
    chown 8:8 /srv/linked
    ln /srv/linked /srv/linked-too
    ln -s made /srv/soft
    mkdir -m 1777 /srv/sticky
    mkfifo /srv/fifo

%environment
    export GREETING="hello & <welcome>"
    export LATER=$GREETING!

%runscript
    echo "run: $# [$*] $GREETING"

%startscript
    echo started

%test
    echo "test: $GREETING"
    test -f /srv/made

%help
    Some <help> & "text".

%labels
    Author Somebody <one@example.org>
    from-base overridden
    empty
"#;

pub const APPS: &str = r#"Bootstrap: oci-archive
From: DIR/base.tar

%appinstall one
    echo installed > bin/tool
    chmod 755 bin/tool

%appenv one
    export ONE=1

%apprun one
    echo "app one: $ONE $SCIF_APPNAME $SCIF_APPROOT $SCIF_APPDATA [$*]"
    echo "path: $PATH"

%apphelp one
    help of one

%applabels one
    kind first

%apptest one
    echo "testing one"

%appfiles one
    DIR/host/data.txt data.txt

%apprun two
    env | grep SCIF_ | sort

%appstart two
    echo start two
"#;

pub const STAGES: &str = r#"Bootstrap: oci-archive
From: DIR/base.tar
Stage: first

%post
    mkdir -p /out/deep
    echo content > /out/deep/file
    chmod 640 /out/deep/file
    ln -s file /out/deep/link
    ln -s /out/deep/file /out/absolute
    mkdir -m 2755 /out/setgid

Bootstrap: oci-archive
From: DIR/base.tar
Stage: last

%files from first
    /out /srv/out
    /out/absolute /srv/followed
    /out/deep/* /srv/matched/

%post
    test -f /srv/out/deep/file
"#;

const ON_IMAGE: &str = r#"Bootstrap: localimage
From: DIR/full-theirs.sif

%post
    echo more > /srv/more
    rm /srv/made

%environment
    export SECOND=2

%labels
    second 2
"#;

const REGISTRY: &str = r#"Bootstrap: docker
From: HOST/org/app:1.0
"#;

const REGISTRY_WITH_POST: &str = r#"Bootstrap: docker
Registry: HOST
Namespace: org
From: app:1.0

%post
    echo made > /opt/made
    rm /usr/bin/noted

%runscript
    cat /opt/made
"#;

pub const DEFINITIONS: &[(&str, &str)] = &[
    ("plain", PLAIN),
    ("full", FULL),
    ("apps", APPS),
    ("stages", STAGES),
    ("on-image", ON_IMAGE),
    ("registry", REGISTRY),
    ("registry-with-post", REGISTRY_WITH_POST),
];
