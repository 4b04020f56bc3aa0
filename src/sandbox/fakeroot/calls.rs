//! Which system calls are answered, under which numbers.
//!
//! Sources: the kernel's `syscall_64.tbl`, `syscall_32.tbl` and `include/uapi/asm-generic/unistd.h`.

/// A call by its meaning; the architectures differ in numbers only, but for what is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Chown,
    LinkChown,
    FileChown,
    ChownAt,
    /// 16-bit ids, of the first i386 programs.
    ShortChown,
    ShortLinkChown,
    ShortFileChown,
    Chmod,
    FileChmod,
    ChmodAt,
    ChmodAt2,
    MakeNode,
    MakeNodeAt,
    Stat,
    LinkStat,
    FileStat,
    StatAt,
    StatX,
    /// Lists of names tell types too.
    ListDirectory,
    Access,
    AccessAt,
    AccessAt2,
    SetAttribute(Reach),
    GetAttribute(Reach),
    ListAttributes(Reach),
    RemoveAttribute(Reach),
    GetUser,
    GetEffectiveUser,
    GetGroup,
    GetEffectiveGroup,
    GetUsers {
        short: bool,
    },
    GetGroupsIds {
        short: bool,
    },
    GetGroups {
        short: bool,
    },
    GetCapabilities,
    SetCapabilities,
    SetUser {
        short: bool,
    },
    SetGroup {
        short: bool,
    },
    SetUsers2 {
        short: bool,
    },
    SetGroups2 {
        short: bool,
    },
    SetUsers3 {
        short: bool,
    },
    SetGroups3 {
        short: bool,
    },
    SetFileUser {
        short: bool,
    },
    SetFileGroup {
        short: bool,
    },
    SetGroups {
        short: bool,
    },
    ProcessControl,
    Execute,
    ExecuteAt,
    Open,
    OpenAt,
    OpenAt2,
    Create,
    MakeDirectory,
    MakeDirectoryAt,
    MakeLink,
    MakeLinkAt,
    HardLink,
    HardLinkAt,
    Remove,
    RemoveAt,
    RemoveDirectory,
    Rename,
    RenameAt,
    /// A socket gets a name.
    Bind,
    /// i386: the same among all calls on sockets.
    AnySocket,
    ChangeRoot,
    /// The caller's view of the file system or of ids changes; performed by the kernel.
    ChangeView,
    GetLimit,
    SetLimit,
    ProcessLimit,
    /// Answered in the filter: programs fall back to calls that are watched.
    Refused,
}

/// How an attribute call names its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Path,
    Link,
    File,
}

/// When a call is looked at; else the kernel performs it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Always,
    /// Argument `0` has one of the bits `1`.
    Bits(u8, u32),
    /// Argument `0` is `1`.
    Is(u8, u32),
    /// Answered with `ENOSYS` without asking.
    Never,
}

/// How far the emulation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Scope {
    /// One id: everything.
    Everything,
    /// One id, but owners and modes are shown as the kernel has them.
    WithoutStatus,
    /// A range of ids: device nodes, what cannot be changed on mounts, privileged attributes.
    Remainder,
    /// The same, and what was recorded is shown.
    RemainderWithStatus,
}

/// What a call belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Ownership,
    Status,
    Attributes,
    /// Reading attributes: nothing to say while nothing is shown.
    AttributesShown,
    Identity,
    Creation,
    View,
    Bypass,
}

pub struct Row {
    pub call: Call,
    pub x86_64: i32,
    pub i386: i32,
    pub aarch64: i32,
    pub when: When,
    group: Group,
}

/// No such call on this architecture.
pub const NONE: i32 = -1;

const fn row(call: Call, numbers: [i32; 3], when: When, group: Group) -> Row {
    Row { call, x86_64: numbers[0], i386: numbers[1], aarch64: numbers[2], when, group }
}

const CREATES: u32 = (libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY)) as u32;
const NEW_VIEW: u32 = (libc::CLONE_NEWNS | libc::CLONE_NEWUSER) as u32;
const LOCKS: u32 = libc::RLIMIT_LOCKS;

use Call::*;
use Group::*;
use When::{Always, Bits, Is, Never};

/// What is called most stands first: calls that depend on an argument are tested every time, all others are remembered by the kernel.
pub const ROWS: &[Row] = &[
    row(OpenAt, [257, 295, 56], Bits(2, CREATES), Creation),
    row(Open, [2, 5, NONE], Bits(1, CREATES), Creation),
    row(Call::StatAt, [262, 300, 79], Always, Status),
    row(Call::FileStat, [5, 197, 80], Always, Status),
    row(Call::Stat, [4, 195, NONE], Always, Status),
    row(Call::LinkStat, [6, 196, NONE], Always, Status),
    row(Call::StatX, [332, 383, 291], Always, Status),
    row(ListDirectory, [217, 220, 61], Always, Status),
    row(Access, [21, 33, NONE], Always, Status),
    row(AccessAt, [269, 307, 48], Always, Status),
    row(AccessAt2, [439, 439, 439], Always, Status),
    row(Execute, [59, 11, 221], Always, Identity),
    row(ExecuteAt, [322, 358, 281], Always, Identity),
    row(ChangeView, [56, 120, 220], Bits(0, NEW_VIEW), View),
    row(Refused, [435, 435, 435], Never, View),
    row(GetUser, [102, 199, 174], Always, Identity),
    row(GetEffectiveUser, [107, 201, 175], Always, Identity),
    row(GetGroup, [104, 200, 176], Always, Identity),
    row(GetEffectiveGroup, [108, 202, 177], Always, Identity),
    row(GetUser, [NONE, 24, NONE], Always, Identity),
    row(GetEffectiveUser, [NONE, 49, NONE], Always, Identity),
    row(GetGroup, [NONE, 47, NONE], Always, Identity),
    row(GetEffectiveGroup, [NONE, 50, NONE], Always, Identity),
    row(GetUsers { short: false }, [118, 209, 148], Always, Identity),
    row(GetUsers { short: true }, [NONE, 165, NONE], Always, Identity),
    row(GetGroupsIds { short: false }, [120, 211, 150], Always, Identity),
    row(GetGroupsIds { short: true }, [NONE, 171, NONE], Always, Identity),
    row(GetGroups { short: false }, [115, 205, 158], Always, Identity),
    row(GetGroups { short: true }, [NONE, 80, NONE], Always, Identity),
    row(GetCapabilities, [125, 184, 90], Always, Identity),
    row(SetCapabilities, [126, 185, 91], Always, Identity),
    row(SetUser { short: false }, [105, 213, 146], Always, Identity),
    row(SetUser { short: true }, [NONE, 23, NONE], Always, Identity),
    row(SetGroup { short: false }, [106, 214, 144], Always, Identity),
    row(SetGroup { short: true }, [NONE, 46, NONE], Always, Identity),
    row(SetUsers2 { short: false }, [113, 203, 145], Always, Identity),
    row(SetUsers2 { short: true }, [NONE, 70, NONE], Always, Identity),
    row(SetGroups2 { short: false }, [114, 204, 143], Always, Identity),
    row(SetGroups2 { short: true }, [NONE, 71, NONE], Always, Identity),
    row(SetUsers3 { short: false }, [117, 208, 147], Always, Identity),
    row(SetUsers3 { short: true }, [NONE, 164, NONE], Always, Identity),
    row(SetGroups3 { short: false }, [119, 210, 149], Always, Identity),
    row(SetGroups3 { short: true }, [NONE, 170, NONE], Always, Identity),
    row(SetFileUser { short: false }, [122, 215, 151], Always, Identity),
    row(SetFileUser { short: true }, [NONE, 138, NONE], Always, Identity),
    row(SetFileGroup { short: false }, [123, 216, 152], Always, Identity),
    row(SetFileGroup { short: true }, [NONE, 139, NONE], Always, Identity),
    row(Call::SetGroups { short: false }, [116, 206, 159], Always, Identity),
    row(Call::SetGroups { short: true }, [NONE, 81, NONE], Always, Identity),
    row(ProcessControl, [157, 172, 167], Is(0, libc::PR_GET_KEEPCAPS as u32), Identity),
    row(ProcessControl, [157, 172, 167], Is(0, libc::PR_SET_KEEPCAPS as u32), Identity),
    row(ProcessControl, [157, 172, 167], Is(0, libc::PR_CAP_AMBIENT as u32), Identity),
    row(ProcessLimit, [302, 340, 261], Is(1, LOCKS), Identity),
    row(GetLimit, [97, 191, 163], Is(0, LOCKS), Identity),
    row(GetLimit, [NONE, 76, NONE], Is(0, LOCKS), Identity),
    row(SetLimit, [160, 75, 164], Is(0, LOCKS), Identity),
    row(Chown, [92, 212, NONE], Always, Ownership),
    row(LinkChown, [94, 198, NONE], Always, Ownership),
    row(FileChown, [93, 207, 55], Always, Ownership),
    row(ChownAt, [260, 298, 54], Always, Ownership),
    row(ShortChown, [NONE, 182, NONE], Always, Ownership),
    row(ShortLinkChown, [NONE, 16, NONE], Always, Ownership),
    row(ShortFileChown, [NONE, 95, NONE], Always, Ownership),
    row(Chmod, [90, 15, NONE], Always, Ownership),
    row(FileChmod, [91, 94, 52], Always, Ownership),
    row(ChmodAt, [268, 306, 53], Always, Ownership),
    row(ChmodAt2, [452, 452, 452], Always, Ownership),
    row(MakeNode, [133, 14, NONE], Always, Ownership),
    row(MakeNodeAt, [259, 297, 33], Always, Ownership),
    row(SetAttribute(Reach::Path), [188, 226, 5], Always, Attributes),
    row(SetAttribute(Reach::Link), [189, 227, 6], Always, Attributes),
    row(SetAttribute(Reach::File), [190, 228, 7], Always, Attributes),
    row(GetAttribute(Reach::Path), [191, 229, 8], Always, AttributesShown),
    row(GetAttribute(Reach::Link), [192, 230, 9], Always, AttributesShown),
    row(GetAttribute(Reach::File), [193, 231, 10], Always, AttributesShown),
    row(ListAttributes(Reach::Path), [194, 232, 11], Always, AttributesShown),
    row(ListAttributes(Reach::Link), [195, 233, 12], Always, AttributesShown),
    row(ListAttributes(Reach::File), [196, 234, 13], Always, AttributesShown),
    row(RemoveAttribute(Reach::Path), [197, 235, 14], Always, Attributes),
    row(RemoveAttribute(Reach::Link), [198, 236, 15], Always, Attributes),
    row(RemoveAttribute(Reach::File), [199, 237, 16], Always, Attributes),
    row(OpenAt2, [437, 437, 437], Always, Creation),
    row(Create, [85, 8, NONE], Always, Creation),
    row(MakeDirectory, [83, 39, NONE], Always, Creation),
    row(MakeDirectoryAt, [258, 296, 34], Always, Creation),
    row(MakeLink, [88, 83, NONE], Always, Creation),
    row(MakeLinkAt, [266, 304, 36], Always, Creation),
    row(HardLink, [86, 9, NONE], Always, Creation),
    row(HardLinkAt, [265, 303, 37], Always, Creation),
    row(Remove, [87, 10, NONE], Always, Creation),
    row(RemoveAt, [263, 301, 35], Always, Creation),
    row(RemoveDirectory, [84, 40, NONE], Always, Creation),
    row(Rename, [82, 38, NONE], Always, Creation),
    row(RenameAt, [264, 302, 38], Always, Creation),
    row(RenameAt, [316, 353, 276], Always, Creation),
    row(Bind, [49, 361, 200], Always, Creation),
    row(AnySocket, [NONE, 102, NONE], Is(0, 2), Creation),
    row(ChangeRoot, [161, 61, 51], Always, View),
    row(ChangeView, [155, 217, 41], Always, View),
    row(ChangeView, [308, 346, 268], Always, View),
    row(ChangeView, [272, 310, 97], Bits(0, NEW_VIEW), View),
    // io_uring, and attributes by directory: the same deeds by ways that nobody watches.
    row(Refused, [425, 425, 425], Never, Bypass),
    row(Refused, [426, 426, 426], Never, Bypass),
    row(Refused, [427, 427, 427], Never, Bypass),
    row(Refused, [463, 463, 463], Never, Bypass),
    row(Refused, [464, 464, 464], Never, Bypass),
    row(Refused, [465, 465, 465], Never, Bypass),
    row(Refused, [466, 466, 466], Never, Bypass),
    // file_getattr and file_setattr (Linux 6.17) change no owner and pass.
];

impl Scope {
    /// The calls that are looked at.
    pub fn rows(self) -> impl Iterator<Item = &'static Row> {
        ROWS.iter().filter(move |row| match row.group {
            Ownership | Attributes | View | Bypass => true,
            Identity | Creation => !self.is_remainder(),
            Status | AttributesShown => matches!(self, Scope::Everything | Scope::RemainderWithStatus),
        })
    }

    /// For keys of results.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Everything => "everything",
            Scope::WithoutStatus => "without-stat",
            Scope::Remainder => "devices",
            Scope::RemainderWithStatus => "devices-with-stat",
        }
    }

    /// Whether the kernel itself knows most ids.
    pub fn is_remainder(self) -> bool {
        matches!(self, Scope::Remainder | Scope::RemainderWithStatus)
    }
}
