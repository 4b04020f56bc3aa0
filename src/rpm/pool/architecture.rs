//! Architectures of packages that an image may hold, the best first.
//!
//! Source: rpm's `rpmrc` (`arch_compat`), libsolv's policy: what is compatible, but of another word size, is of a class of its own.

/// Which packages fit an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Architectures {
    /// The best first, without `noarch`.
    compatible: Vec<&'static str>,
}

/// How good an architecture is: 0 is the best, `None` inside is `noarch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    Any,
    Class(usize),
}

impl Architectures {
    /// For an image of an architecture, by rpm's name of it (`x86_64`, `aarch64`, `ppc64le`, …).
    pub fn of(name: &str) -> Option<Architectures> {
        const FAMILIES: [&[&str]; 8] = [
            &["x86_64", "i686", "i586", "i486", "i386"],
            &["i686", "i586", "i486", "i386"],
            &["aarch64"],
            &["ppc64le"],
            &["s390x"],
            &["riscv64"],
            &["loongarch64"],
            &["armv7hl", "armv7hnl", "armv6hl"],
        ];
        let family = FAMILIES.iter().find(|family| family[0] == name)?;
        Some(Architectures { compatible: family.to_vec() })
    }

    /// rpm's name of the image's architecture.
    pub fn base(&self) -> &'static str {
        self.compatible[0]
    }

    /// None: packages of it cannot be installed.
    pub fn score(&self, arch: &str) -> Option<Score> {
        if arch == "noarch" {
            return Some(Score::Any);
        }
        self.compatible.iter().position(|known| *known == arch).map(Score::Class)
    }

    /// Whether a name stands for an architecture, so that `name.arch` can be told from a name with a dot.
    pub fn knows(&self, arch: &str) -> bool {
        const OTHERS: [&str; 15] = [
            "noarch",
            "src",
            "nosrc",
            "x86_64",
            "i686",
            "i586",
            "i486",
            "i386",
            "aarch64",
            "ppc64le",
            "s390x",
            "riscv64",
            "loongarch64",
            "armv7hl",
            "ppc64",
        ];
        OTHERS.contains(&arch) || self.compatible.contains(&arch)
    }
}

/// Whether two packages of one name stand for each other: those of different word sizes may be installed side by side.
pub fn is_same_colour(left: &str, right: &str) -> bool {
    left == right || colour(left) & colour(right) != 0
}

fn colour(arch: &str) -> u8 {
    match arch {
        "noarch" => 3,
        "x86_64" | "aarch64" | "ppc64" | "ppc64le" | "s390x" | "riscv64" | "loongarch64" | "sparc64" => 2,
        _ => 1,
    }
}
