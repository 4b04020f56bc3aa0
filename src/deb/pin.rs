//! What is known of a Debian base once its archive was asked: the text that goes into a lock file is made of this.

use crate::digest::Digest;

/// Which packages make up the base (`debootstrap --variant`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// Required packages and apt; what Apptainer asks for.
    Minbase,
    /// Required packages, apt and build-essential.
    Buildd,
    /// Required and important packages.
    Standard,
}

impl Variant {
    /// The name as `debootstrap --variant` takes it; `-` is its default.
    pub fn parse(name: &str) -> Option<Variant> {
        match name {
            "minbase" => Some(Variant::Minbase),
            "buildd" => Some(Variant::Buildd),
            "-" | "" | "standard" | "default" => Some(Variant::Standard),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Variant::Minbase => "minbase",
            Variant::Buildd => "buildd",
            Variant::Standard => "standard",
        }
    }
}

/// One package file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackagePin {
    pub name: String,
    pub version: String,
    /// `all` or the Debian name of an architecture.
    pub architecture: String,
    /// Path below the mirror.
    pub filename: String,
    /// Bytes.
    pub size: u64,
    pub digest: Digest,
    /// Batch 0 is the core, unpacked before dpkg runs: packages of priority required and what they depend on. Each further batch is
    /// unpacked and configured before the next, as pre-dependencies want it.
    pub batch: u32,
}

impl PackagePin {
    /// `name_version_architecture.deb`, without the epoch's colon.
    pub fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version.replace(':', "%3a"), self.architecture)
    }
}

/// A Debian base, complete: with the mirror, or any store that has these digests, nothing else is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebianPin {
    /// Without a trailing slash.
    pub mirror: String,
    /// As asked for (`OSVersion`).
    pub suite: String,
    /// As the release calls itself; the suite when it does not.
    pub codename: String,
    /// `Origin` of the release (`Debian`, `Ubuntu`), empty when absent.
    pub origin: String,
    pub components: Vec<String>,
    /// Debian name.
    pub architecture: String,
    pub variant: Variant,
    /// Of the signed text.
    pub release: Digest,
    /// Seconds since the epoch, from the release's `Date`; the date that made-up files get.
    pub date: i64,
    /// Upper-case hexadecimal; the primary keys whose signatures were good.
    pub signers: Vec<String>,
    /// Whether `/bin`, `/sbin` and `/lib*` are links into `/usr`.
    pub merged_usr: bool,
    /// By batch, then by name.
    pub packages: Vec<PackagePin>,
}
