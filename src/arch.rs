//! Processor architectures and their names in each world.
//!
//! Sources: GOARCH values (OCI platform), SIF architecture codes (facts 5.2), Debian and RPM architecture names.

use std::fmt;

macro_rules! architectures {
    ($($variant:ident $oci:literal $sif:literal $debian:literal $rpm:literal;)*) => {
        /// An architecture that images are built for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Arch { $($variant),* }

        impl Arch {
            pub const ALL: &'static [Arch] = &[$(Arch::$variant),*];

            /// Name as in OCI platforms and Apptainer's labels.
            pub fn oci(self) -> &'static str { match self { $(Arch::$variant => $oci),* } }

            /// Two ASCII digits of the SIF header.
            pub fn sif(self) -> &'static str { match self { $(Arch::$variant => $sif),* } }

            pub fn debian(self) -> &'static str { match self { $(Arch::$variant => $debian),* } }

            pub fn rpm(self) -> &'static str { match self { $(Arch::$variant => $rpm),* } }
        }
    };
}

architectures! {
    I386 "386" "01" "i386" "i686";
    Amd64 "amd64" "02" "amd64" "x86_64";
    Arm "arm" "03" "armhf" "armv7hl";
    Arm64 "arm64" "04" "arm64" "aarch64";
    Ppc64 "ppc64" "05" "ppc64" "ppc64";
    Ppc64le "ppc64le" "06" "ppc64el" "ppc64le";
    Mips "mips" "07" "mips" "mips";
    Mipsle "mipsle" "08" "mipsel" "mipsel";
    Mips64 "mips64" "09" "mips64" "mips64";
    Mips64le "mips64le" "10" "mips64el" "mips64el";
    S390x "s390x" "11" "s390x" "s390x";
    Riscv64 "riscv64" "12" "riscv64" "riscv64";
    Loong64 "loong64" "13" "loong64" "loongarch64";
}

impl Arch {
    /// The architecture that this program was compiled for.
    pub fn host() -> Arch {
        match std::env::consts::ARCH {
            "x86" => Arch::I386,
            "aarch64" => Arch::Arm64,
            "arm" => Arch::Arm,
            "powerpc64" => Arch::Ppc64le,
            "s390x" => Arch::S390x,
            "riscv64" => Arch::Riscv64,
            "loongarch64" => Arch::Loong64,
            _ => Arch::Amd64,
        }
    }

    /// Accepts the names of `--arch` (facts 2.2) and the kernel's own (`x86_64`, `aarch64`).
    pub fn parse(name: &str) -> Option<Arch> {
        let name = match name {
            "arm32v5" | "arm32v6" | "arm32v7" => "arm",
            "arm64v8" => "arm64",
            other => other,
        };
        Arch::ALL.iter().copied().find(|arch| [arch.oci(), arch.debian(), arch.rpm()].contains(&name))
    }

    pub fn from_sif(code: &str) -> Option<Arch> {
        Arch::ALL.iter().copied().find(|arch| arch.sif() == code)
    }

    /// From the fields `e_ident[EI_CLASS]`, `e_ident[EI_DATA]` and `e_machine` of an ELF header.
    pub fn from_elf(header: &[u8]) -> Option<Arch> {
        if header.len() < 20 || !header.starts_with(b"\x7fELF") {
            return None;
        }
        let (class, little) = (header[4], header[5] == 1);
        let machine = if little {
            u16::from_le_bytes([header[18], header[19]])
        } else {
            u16::from_be_bytes([header[18], header[19]])
        };
        Some(match (machine, class, little) {
            (3, _, _) => Arch::I386,
            (62, _, _) => Arch::Amd64,
            (40, _, _) => Arch::Arm,
            (183, _, _) => Arch::Arm64,
            (21, _, false) => Arch::Ppc64,
            (21, _, true) => Arch::Ppc64le,
            (8, 1, false) => Arch::Mips,
            (8, 1, true) => Arch::Mipsle,
            (8, _, false) => Arch::Mips64,
            (8, _, true) => Arch::Mips64le,
            (22, _, _) => Arch::S390x,
            (243, 2, _) => Arch::Riscv64,
            (258, 2, _) => Arch::Loong64,
            _ => return None,
        })
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.oci())
    }
}
