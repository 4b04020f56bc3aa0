//! The numbers of the format and the texts that siftool shows for them.

use std::fmt;

macro_rules! codes {
    ($(#[$documentation:meta])* $name:ident $size:ty { $($constant:ident = $code:literal $text:literal;)* }) => {
        $(#[$documentation])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $size);

        impl $name {
            $(pub const $constant: $name = $name($code);)*
            pub const KNOWN: &'static [$name] = &[$($name::$constant),*];

            /// The text that siftool shows.
            pub fn text(self) -> &'static str {
                match self { $($name::$constant => $text,)* _ => "Unknown" }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.text())
            }
        }
    };
}

codes! {
    /// What a data object is.
    DataType i32 {
        DEFFILE = 0x4001 "Def.FILE";
        ENVIRONMENT = 0x4002 "Env.Vars";
        LABELS = 0x4003 "JSON.Labels";
        PARTITION = 0x4004 "FS";
        SIGNATURE = 0x4005 "Signature";
        GENERIC_JSON = 0x4006 "JSON.Generic";
        GENERIC = 0x4007 "Generic/Raw";
        CRYPTO_MESSAGE = 0x4008 "Cryptographic Message";
        SBOM = 0x4009 "SBOM";
        OCI_ROOT_INDEX = 0x400A "OCI.RootIndex";
        OCI_BLOB = 0x400B "OCI.Blob";
    }
}

codes! {
    FileSystem i32 {
        SQUASHFS = 1 "Squashfs";
        EXT3 = 2 "Ext3";
        IMMUTABLE_OBJECT = 3 "Archive";
        RAW = 4 "Raw";
        ENCRYPTED_SQUASHFS = 5 "Encrypted squashfs";
        GOCRYPTFS_SQUASHFS = 6 "Gocryptfs squashfs";
    }
}

codes! {
    PartitionType i32 {
        SYSTEM = 1 "System";
        PRIMARY_SYSTEM = 2 "*System";
        DATA = 3 "Data";
        OVERLAY = 4 "Overlay";
    }
}

codes! {
    HashType i32 {
        SHA256 = 1 "SHA-256";
        SHA384 = 2 "SHA-384";
        SHA512 = 3 "SHA-512";
        BLAKE2S_256 = 4 "BLAKE2s-256";
        BLAKE2B_256 = 5 "BLAKE2b-256";
    }
}

codes! {
    MessageFormat i32 {
        OPENPGP = 1 "OpenPGP";
        PEM = 2 "PEM";
    }
}

codes! {
    MessageType i32 {
        CLEAR_SIGNATURE = 0x100 "Clear Signature";
        RSA_OAEP = 0x200 "RSA-OAEP";
    }
}

codes! {
    SbomFormat i32 {
        CYCLONEDX_JSON = 1 "cyclonedx-json";
        CYCLONEDX_XML = 2 "cyclonedx-xml";
        GITHUB_JSON = 3 "github-json";
        SPDX_JSON = 4 "spdx-json";
        SPDX_RDF = 5 "spdx-rdf";
        SPDX_TAG_VALUE = 6 "spdx-tag-value";
        SPDX_YAML = 7 "spdx-yaml";
        SYFT_JSON = 8 "syft-json";
    }
}
