//! The command line of `build`, in Apptainer's order and with its flag names (facts §3).

use super::exchange::RegistryArguments;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Build an image from a definition file, an image, or a URI.
#[derive(Args, Clone, Debug, Default)]
pub struct BuildArguments {
    /// Where the image goes
    pub target: PathBuf,
    /// A definition file, an image (SIF, squashfs, sandbox directory), or a URI such as docker://debian:12
    pub spec: String,

    /// Write a sandbox directory instead of a SIF
    #[arg(short = 's', long)]
    pub sandbox: bool,
    /// Write an OCI image layout directory instead of a SIF
    #[arg(long, conflicts_with = "sandbox")]
    pub oci_layout: bool,
    /// Replace an existing target; let the definition's labels and help replace the base's
    #[arg(short = 'F', long)]
    pub force: bool,
    /// Run the definition over an existing sandbox (needs --sandbox)
    #[arg(short = 'u', long)]
    pub update: bool,
    /// Do not run %test
    #[arg(short = 'T', long)]
    pub notest: bool,
    /// Only these sections: all, none, or a list of pre, setup, files, help, labels, environment, runscript, startscript, test
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub section: Vec<String>,

    /// Architecture of the image: amd64, arm64, ppc64le, …
    #[arg(long)]
    pub arch: Option<String>,
    #[arg(long)]
    pub arch_variant: Option<String>,

    /// Value for {{ KEY }} in the definition, as KEY=VALUE; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub build_arg: Vec<String>,
    /// File of KEY=VALUE lines
    #[arg(long, value_name = "FILE")]
    pub build_arg_file: Option<PathBuf>,
    /// Warn about build arguments that nothing uses, instead of failing
    #[arg(long)]
    pub warn_unused_build_args: bool,

    /// Bind SOURCE[:DESTINATION[:ro]] into %post and %test; may be repeated, commas separate
    #[arg(short = 'B', long, value_name = "SPEC")]
    pub bind: Vec<String>,
    /// Bind as type=bind,source=…,destination=…[,ro]; may be repeated
    #[arg(long, value_name = "SPEC")]
    pub mount: Vec<String>,
    /// What a failed step leaves: nothing, or a shell in the state that it failed in
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub on_fail: OnFail,
    /// Keep the directory of a failed step and print its path
    #[arg(long, alias = "no-cleanup")]
    pub keep_failed: bool,
    /// How users and groups are emulated
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    pub id_mode: IdModeChoice,
    /// Whether scripts see owners and devices that are only recorded: where there is one id (auto), with a range of ids too, or never
    /// (faster, and wrong owners)
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub fakeroot_stat: FakerootStat,

    /// Compression of the image: zstd, gzip, xz, lz4, none, each with :LEVEL where it has levels
    #[arg(long, value_name = "NAME[:LEVEL]")]
    pub compression: Option<String>,
    /// Block size of the image in bytes, a power of two from 4096 to 1048576
    #[arg(long, value_name = "BYTES")]
    pub block_size: Option<u32>,
    /// Threads to pack with [default: as many as this job may use]
    #[arg(short = 'j', long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Memory to pack with, with K, M, G or T: fewer threads where that is little [default: what this job may use]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Leave the processors to the scripts: do not compress the base while they run
    #[arg(long)]
    pub no_background: bool,
    /// Equal bytes on every run: no time in the image is later than SOURCE_DATE_EPOCH, or than the base where that is not set
    #[arg(long)]
    pub reproducible: bool,
    /// Build twice, as reproducible, the second time in other surroundings, and show in what the images differ
    #[arg(long)]
    pub verify_reproducible: bool,
    /// Which of the two builds of --verify-reproducible this is
    #[arg(long, hide = true, requires = "verification")]
    pub repetition: Option<super::verify_reproducible::Repetition>,
    /// The directory that both builds share
    #[arg(long, hide = true)]
    pub verification: Option<PathBuf>,

    /// Encrypt the root filesystem (SIF only); implied by the two flags that give the key
    #[arg(short = 'e', long)]
    pub encrypt: bool,
    #[command(flatten)]
    pub key: super::encryption::KeyArguments,

    /// Sign the image before it appears (SIF only): with the user's own key, or with KEY, which is a PEM file, or a fingerprint, key id,
    /// number or part of the user id in `key list --secret`
    #[arg(long, value_name = "KEY", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub sign: Option<String>,
    #[command(flatten)]
    pub passphrase: super::passphrase::PassphraseArguments,

    #[command(flatten)]
    pub trust: super::trust::TrustArguments,

    /// Forget earlier results: run every step
    #[arg(long)]
    pub no_reuse: bool,
    /// Keep nothing between builds
    #[arg(long)]
    pub disable_cache: bool,
    /// Directory for what is kept between builds
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Where a build that keeps nothing (--disable-cache) works
    #[arg(long, value_name = "DIR")]
    pub tmpdir: Option<PathBuf>,
    /// Ask no network
    #[arg(long)]
    pub offline: bool,
    /// Lock file that says what the bases are exactly [default: SPEC.lock, where it is]
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Ask what the bases are, also where there is a lock file
    #[arg(long, conflicts_with = "lock")]
    pub no_lock: bool,
    #[command(flatten)]
    pub supply: SupplyArguments,

    #[command(flatten)]
    pub registry: RegistryArguments,
    /// Socket of the Docker (or podman) service, for docker-daemon:
    #[arg(long, value_name = "URL")]
    pub docker_host: Option<String>,

    /// Keyring to check a distribution's signature with; may be repeated [default: the host's]
    #[arg(long, value_name = "FILE")]
    pub keyring: Vec<PathBuf>,
    /// Install RPM packages whose signatures are missing or do not hold
    #[arg(long)]
    pub no_check_signatures: bool,
    /// Accept SHA-1, which can be forged, as proof of what an RPM repository lists
    #[arg(long)]
    pub allow_sha1: bool,
    /// Accept a mirror whose signed index has expired
    #[arg(long)]
    pub ignore_valid_until: bool,
    /// Variant of a Debian base: minbase, buildd, or default
    #[arg(long, value_name = "NAME", default_value = "minbase")]
    pub debian_variant: String,

    #[command(flatten)]
    pub accepted: AcceptedArguments,
}

/// Apptainer's flags that change nothing here, or that are refused with the reason; `README.md` has the table.
#[derive(Args, Clone, Debug, Default)]
pub struct AcceptedArguments {
    /// Accepted: builds are always fakeroot for a user without privileges
    #[arg(short = 'f', long, help_heading = "Accepted for compatibility")]
    pub fakeroot: bool,
    /// Accepted: files are always readable to the packer
    #[arg(long, help_heading = "Accepted for compatibility")]
    pub fix_perms: bool,
    /// Accepted: no setuid program is used
    #[arg(long, help_heading = "Accepted for compatibility")]
    pub userns: bool,
    /// Accepted: the root filesystem of %test is always discarded
    #[arg(long, help_heading = "Accepted for compatibility")]
    pub writable_tmpfs: bool,
    #[arg(long, hide = true)]
    pub json: bool,
    #[arg(long, hide = true)]
    pub ignore_subuid: bool,
    #[arg(long, hide = true)]
    pub ignore_fakeroot_command: bool,
    #[arg(long, hide = true)]
    pub ignore_proot: bool,
    #[arg(long, hide = true)]
    pub ignore_userns: bool,
    #[arg(long, hide = true)]
    pub data: bool,
    #[arg(long, hide = true)]
    pub nv: bool,
    #[arg(long, hide = true)]
    pub nvccli: bool,
    #[arg(long, hide = true)]
    pub rocm: bool,
    #[arg(long, hide = true)]
    pub compat32: bool,
    #[arg(long, hide = true)]
    pub remote: bool,
    #[arg(long, hide = true)]
    pub mksquashfs_args: Option<String>,
    #[arg(long, hide = true)]
    pub buildkit_host: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OnFail {
    #[default]
    Clean,
    Shell,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum IdModeChoice {
    #[default]
    Auto,
    Root,
    Range,
    Single,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FakerootStat {
    #[default]
    Auto,
    On,
    Off,
}

/// A variable of the environment under its three prefixes, the first set one wins.
pub fn lookup(name: &str, variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    ["SIFBUILD_", "APPTAINER_", "SINGULARITY_"].iter().find_map(|prefix| variable(&format!("{prefix}{name}")))
}

/// Where files of bases are looked for beside the mirror.
#[derive(Args, Clone, Debug, Default)]
pub struct SupplyArguments {
    /// What `sifbuild vendor` collected: a directory, oci-archive:FILE or oras://REGISTRY/REPOSITORY:TAG [default: SPEC.vendor, where it is]
    #[arg(long, value_name = "PLACE")]
    pub vendor: Option<String>,
    /// Address of an archive of old packages, asked for those that a mirror no longer has, in the place of a repository's or a Debian
    /// mirror's address; may be repeated
    #[arg(long, value_name = "URL")]
    pub vault: Vec<String>,
}

/// What a command asks of a definition that it does not build.
#[derive(Args, Clone, Debug)]
pub struct DefinitionArguments {
    /// Value for {{ KEY }} in the definition, as KEY=VALUE; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub build_arg: Vec<String>,
    /// File of KEY=VALUE lines
    #[arg(long, value_name = "FILE")]
    pub build_arg_file: Option<PathBuf>,
    /// Architecture of the image
    #[arg(long)]
    pub arch: Option<String>,
    /// Directory for what is kept between builds
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
}

impl DefinitionArguments {
    /// The same as a build's; `target` is never written.
    pub fn build(self, spec: String, target: &str) -> BuildArguments {
        BuildArguments {
            target: PathBuf::from(target),
            spec,
            build_arg: self.build_arg,
            build_arg_file: self.build_arg_file,
            arch: self.arch,
            cache_dir: self.cache_dir,
            debian_variant: "minbase".to_owned(),
            ..BuildArguments::default()
        }
    }
}

impl BuildArguments {
    /// Fills what the command line left open from the environment (facts §3, column "env").
    pub fn fill(&mut self, variable: &dyn Fn(&str) -> Option<String>) {
        let text = |name: &str| lookup(name, variable);
        self.trust.fill(variable);
        let yes = |name: &str| {
            text(name).is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
        };
        for (flag, name) in [
            (&mut self.sandbox, "SANDBOX"),
            (&mut self.force, "FORCE"),
            (&mut self.update, "UPDATE"),
            (&mut self.notest, "NOTEST"),
            (&mut self.disable_cache, "DISABLE_CACHE"),
            (&mut self.keep_failed, "NO_CLEANUP"),
            (&mut self.reproducible, "REPRODUCIBLE"),
            (&mut self.offline, "OFFLINE"),
            (&mut self.no_reuse, "NO_REUSE"),
            (&mut self.no_background, "NO_BACKGROUND"),
        ] {
            *flag |= yes(name);
        }
        self.registry.fill(variable);
        let or = |value: &mut Option<String>, name: &str, bare: bool| {
            if value.is_none() {
                *value =
                    text(name).or_else(|| bare.then(|| variable(name)).flatten()).filter(|value| !value.is_empty());
            }
        };
        or(&mut self.arch, "BUILD_ARCH", false);
        or(&mut self.arch_variant, "BUILD_ARCH_VARIANT", false);
        or(&mut self.docker_host, "DOCKER_HOST", true);
        or(&mut self.compression, "COMPRESSION", false);
        or(&mut self.accepted.mksquashfs_args, "MKSQUASHFS_ARGS", false);
        for (value, name) in [(&mut self.tmpdir, "TMPDIR"), (&mut self.cache_dir, "CACHEDIR")] {
            if value.is_none() {
                *value = text(name).filter(|value| !value.is_empty()).map(PathBuf::from);
            }
        }
        if self.section.is_empty() {
            self.section = text("SECTION").map(|list| list.split(',').map(str::to_owned).collect()).unwrap_or_default();
        }
        self.supply.vault.extend(text("VAULT").iter().flat_map(|list| list.split_whitespace()).map(str::to_owned));
        self.mount.extend(text("MOUNT").iter().flat_map(|list| list.lines()).map(str::to_owned));
        self.bind.extend(text("BIND").or_else(|| text("BINDPATH")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_prefix_wins_over_apptainers_over_singularitys() {
        let set = |name: &str| match name {
            "SINGULARITY_TMPDIR" => Some("/s".to_owned()),
            "APPTAINER_TMPDIR" => Some("/a".to_owned()),
            "APPTAINER_FORCE" => Some("true".to_owned()),
            "APPTAINER_NOTEST" => Some("no".to_owned()),
            "DOCKER_USERNAME" => Some("bob".to_owned()),
            _ => None,
        };
        let mut arguments = BuildArguments::default();
        arguments.fill(&set);
        assert_eq!(arguments.tmpdir, Some(PathBuf::from("/a")));
        assert!(arguments.force && !arguments.notest);
        assert_eq!(arguments.registry.docker_username.as_deref(), Some("bob"));
    }

    #[test]
    fn the_command_line_wins_over_the_environment() {
        let mut arguments = BuildArguments { arch: Some("arm64".to_owned()), ..BuildArguments::default() };
        arguments.fill(&|name| (name == "SIFBUILD_BUILD_ARCH").then(|| "amd64".to_owned()));
        assert_eq!(arguments.arch.as_deref(), Some("arm64"));
    }
}
