//! Who a process is, and what it may become: the kernel's rules as a value.
//!
//! Sources: credentials(7), capabilities(7), setuid(2), setreuid(2), setresuid(2), setfsuid(2), setgroups(2), capset(2), execve(2).

use std::collections::HashMap;

pub const CHOWN: u32 = 0;
pub const DAC_OVERRIDE: u32 = 1;
pub const DAC_READ_SEARCH: u32 = 2;
pub const FOWNER: u32 = 3;
pub const FSETID: u32 = 4;
pub const SETGID: u32 = 6;
pub const SETUID: u32 = 7;
pub const SETPCAP: u32 = 8;
pub const SYS_CHROOT: u32 = 18;
pub const SYS_ADMIN: u32 = 21;
pub const MKNOD: u32 = 27;
pub const SETFCAP: u32 = 31;

/// Those that go and come with the file system's user id (`CAP_FS_SET`): chown, the two of access, fowner, fsetid, linux_immutable, mknod,
/// mac_override.
const OF_FILES: u64 =
    1 << CHOWN | 1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH | 1 << FOWNER | 1 << FSETID | 1 << 9 | 1 << MKNOD | 1 << 32;
/// Linux 5.9 and later have 41.
const ALL: u64 = (1 << 41) - 1;
/// Spec: setgroups(2).
pub const MOST_GROUPS: usize = 65536;
/// Different identities in one run; far beyond what a container has users and groups for.
const MOST_IDENTITIES: usize = 1 << 20;
/// All lists of groups together: a program that makes up ever new ones must not fill the memory.
const MOST_KEPT_GROUPS: usize = 1 << 22;
/// "Leave it as it is."
pub const KEEP: u32 = u32::MAX;

/// The four ids of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ids {
    pub real: u32,
    pub effective: u32,
    pub saved: u32,
    /// For access to files.
    pub files: u32,
}

impl Ids {
    pub fn all(id: u32) -> Ids {
        Ids { real: id, effective: id, saved: id, files: id }
    }

    fn has(self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    fn any_root(self) -> bool {
        self.has(0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    pub user: Ids,
    pub group: Ids,
    /// Sorted.
    pub groups: Vec<u32>,
    pub permitted: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub ambient: u64,
    pub keep_capabilities: bool,
}

/// The kernel's `EPERM`, for which there is no other reason here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

impl Default for Credentials {
    fn default() -> Credentials {
        Credentials::root()
    }
}

impl Credentials {
    /// What every container begins with.
    pub fn root() -> Credentials {
        Credentials {
            user: Ids::default(),
            group: Ids::default(),
            groups: Vec::new(),
            permitted: ALL,
            effective: ALL,
            inheritable: 0,
            ambient: 0,
            keep_capabilities: false,
        }
    }

    pub fn may(&self, capability: u32) -> bool {
        self.effective & 1 << capability != 0
    }

    pub fn is_in_group(&self, group: u32) -> bool {
        self.group.files == group || self.groups.binary_search(&group).is_ok()
    }

    pub fn set_user(&mut self, id: u32) -> Result<(), Refused> {
        let old = self.user;
        if self.may(SETUID) {
            self.user = Ids::all(id);
        } else if id == old.real || id == old.saved {
            (self.user.effective, self.user.files) = (id, id);
        } else {
            return Err(Refused);
        }
        self.follow_user(old);
        Ok(())
    }

    pub fn set_users2(&mut self, real: u32, effective: u32) -> Result<(), Refused> {
        let old = self.user;
        self.user = pair(old, real, effective, self.may(SETUID))?;
        self.follow_user(old);
        Ok(())
    }

    pub fn set_users3(&mut self, ids: [u32; 3]) -> Result<(), Refused> {
        let old = self.user;
        self.user = triple(old, ids, self.may(SETUID))?;
        self.follow_user(old);
        Ok(())
    }

    /// Gives the id before; the call itself cannot fail.
    pub fn set_file_user(&mut self, id: u32) -> u32 {
        let old = self.user.files;
        if id != KEEP && (self.user.has(id) || id == old || self.may(SETUID)) {
            self.user.files = id;
            if old == 0 && id != 0 {
                self.effective &= !OF_FILES;
            } else if old != 0 && id == 0 {
                self.effective |= self.permitted & OF_FILES;
            }
        }
        old
    }

    pub fn set_group(&mut self, id: u32) -> Result<(), Refused> {
        if self.may(SETGID) {
            self.group = Ids::all(id);
        } else if id == self.group.real || id == self.group.saved {
            (self.group.effective, self.group.files) = (id, id);
        } else {
            return Err(Refused);
        }
        Ok(())
    }

    pub fn set_groups2(&mut self, real: u32, effective: u32) -> Result<(), Refused> {
        self.group = pair(self.group, real, effective, self.may(SETGID))?;
        Ok(())
    }

    pub fn set_groups3(&mut self, ids: [u32; 3]) -> Result<(), Refused> {
        self.group = triple(self.group, ids, self.may(SETGID))?;
        Ok(())
    }

    pub fn set_file_group(&mut self, id: u32) -> u32 {
        let old = self.group.files;
        if id != KEEP && (self.group.has(id) || id == old || self.may(SETGID)) {
            self.group.files = id;
        }
        old
    }

    pub fn set_groups(&mut self, mut groups: Vec<u32>) -> Result<(), Refused> {
        if !self.may(SETGID) {
            return Err(Refused);
        }
        groups.sort_unstable();
        self.groups = groups;
        Ok(())
    }

    pub fn set_capabilities(&mut self, effective: u64, permitted: u64, inheritable: u64) -> Result<(), Refused> {
        let (effective, permitted, inheritable) = (effective & ALL, permitted & ALL, inheritable & ALL);
        let inheritable_bound = if self.may(SETPCAP) { ALL } else { self.inheritable | self.permitted };
        if permitted & !self.permitted != 0 || effective & !permitted != 0 || inheritable & !inheritable_bound != 0 {
            return Err(Refused);
        }
        (self.effective, self.permitted, self.inheritable) = (effective, permitted, inheritable);
        self.ambient &= permitted & inheritable;
        Ok(())
    }

    pub fn raise_ambient(&mut self, capability: u32) -> Result<(), Refused> {
        let bit = 1u64.checked_shl(capability).unwrap_or(0) & ALL;
        if bit == 0 || self.permitted & self.inheritable & bit == 0 {
            return Err(Refused);
        }
        self.ambient |= bit;
        Ok(())
    }

    /// What exec makes of it; `user` and `group` are the owners of a file with set-id bits.
    pub fn execute(&mut self, user: Option<u32>, group: Option<u32>) {
        let changed =
            user.is_some_and(|id| id != self.user.effective) || group.is_some_and(|id| id != self.group.effective);
        if let Some(id) = user {
            self.user.effective = id;
        }
        if let Some(id) = group {
            self.group.effective = id;
        }
        (self.user.saved, self.user.files) = (self.user.effective, self.user.effective);
        (self.group.saved, self.group.files) = (self.group.effective, self.group.effective);
        if changed {
            self.ambient = 0;
        }
        let is_root = self.user.effective == 0;
        self.permitted = if is_root || self.user.real == 0 { ALL } else { self.ambient };
        self.effective = if is_root { self.permitted } else { self.ambient };
        self.keep_capabilities = false;
    }

    /// Spec: capabilities(7), "Effect of user ID changes on capabilities".
    fn follow_user(&mut self, old: Ids) {
        if old.any_root() && !self.user.any_root() {
            if !self.keep_capabilities {
                (self.permitted, self.effective) = (0, 0);
            }
            self.ambient = 0;
        }
        if old.effective == 0 && self.user.effective != 0 {
            self.effective = 0;
        } else if old.effective != 0 && self.user.effective == 0 {
            self.effective = self.permitted;
        }
    }
}

/// Spec: setreuid(2), setregid(2).
fn pair(old: Ids, real: u32, effective: u32, privileged: bool) -> Result<Ids, Refused> {
    let mut new = old;
    if real != KEEP {
        if !privileged && real != old.real && real != old.effective {
            return Err(Refused);
        }
        new.real = real;
    }
    if effective != KEEP {
        if !privileged && !old.has(effective) {
            return Err(Refused);
        }
        new.effective = effective;
    }
    if real != KEEP || (effective != KEEP && effective != old.real) {
        new.saved = new.effective;
    }
    new.files = new.effective;
    Ok(new)
}

/// Spec: setresuid(2), setresgid(2).
fn triple(old: Ids, ids: [u32; 3], privileged: bool) -> Result<Ids, Refused> {
    if !privileged && ids.iter().any(|id| *id != KEEP && !old.has(*id)) {
        return Err(Refused);
    }
    let chosen = |new: u32, old: u32| if new == KEEP { old } else { new };
    let effective = chosen(ids[1], old.effective);
    Ok(Ids { real: chosen(ids[0], old.real), effective, saved: chosen(ids[2], old.saved), files: effective })
}

/// What is asked of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub user: u32,
    pub group: u32,
    /// Type and permissions.
    pub mode: u32,
}

/// Spec: path_resolution(7). `wanted` has the bits of access(2): 4 read, 2 write, 1 execute.
pub fn may_access(credentials: &Credentials, owner: Owner, wanted: u32) -> bool {
    let class = if credentials.user.files == owner.user {
        6
    } else if credentials.is_in_group(owner.group) {
        3
    } else {
        0
    };
    if owner.mode >> class & wanted == wanted {
        return true;
    }
    let is_directory = owner.mode & libc::S_IFMT == libc::S_IFDIR;
    let executable = is_directory || owner.mode & 0o111 != 0;
    if credentials.may(DAC_OVERRIDE) && (wanted & 1 == 0 || executable) {
        return true;
    }
    credentials.may(DAC_READ_SEARCH) && (wanted == 4 || (is_directory && wanted & 2 == 0))
}

/// All identities of a run, each with a number; number 0 is root as at the start.
pub struct Identities {
    known: Vec<Credentials>,
    numbers: HashMap<Credentials, usize>,
    groups: usize,
}

impl Default for Identities {
    fn default() -> Identities {
        let root = Credentials::root();
        Identities { known: vec![root.clone()], numbers: HashMap::from([(root, 0)]), groups: 0 }
    }
}

impl Identities {
    /// A number that nobody gave is a process's own doing; it gets root, which it was.
    pub fn get(&self, number: usize) -> &Credentials {
        self.known.get(number).unwrap_or(&self.known[0])
    }

    /// `None`: too many.
    pub fn number(&mut self, credentials: Credentials) -> Option<usize> {
        if let Some(number) = self.numbers.get(&credentials) {
            return Some(*number);
        }
        self.groups += credentials.groups.len();
        if self.known.len() >= MOST_IDENTITIES || self.groups > MOST_KEPT_GROUPS {
            return None;
        }
        self.known.push(credentials.clone());
        self.numbers.insert(credentials, self.known.len() - 1);
        Some(self.known.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_identity_is_dropped_for_good() {
        let mut process = Credentials::root();
        process.set_groups(vec![7, 3]).unwrap();
        process.set_group(100).unwrap();
        process.set_user(1000).unwrap();
        assert_eq!((process.user, process.group, &process.groups[..]), (Ids::all(1000), Ids::all(100), &[3, 7][..]));
        assert_eq!((process.permitted, process.effective), (0, 0));
        assert_eq!(process.set_user(0), Err(Refused));
        assert_eq!(process.set_users3([0, 0, 0]), Err(Refused));
        assert_eq!(process.set_groups(vec![]), Err(Refused));
        assert_eq!(process.set_file_user(0), 1000);
        assert_eq!(process.user.files, 1000);
    }

    #[test]
    fn an_effective_id_comes_back_from_the_saved_one() {
        let mut process = Credentials::root();
        process.set_users2(KEEP, 42).unwrap();
        assert_eq!(process.user, Ids { real: 0, effective: 42, saved: 42, files: 42 });
        assert_eq!(process.effective, 0);
        // Spec: setreuid(2): the real id may be taken again.
        process.set_users2(KEEP, 0).unwrap();
        assert_eq!((process.user.effective, process.effective), (0, ALL));
        process.set_users3([KEEP, 42, 0]).unwrap();
        process.set_user(0).unwrap();
        assert_eq!(process.user.effective, 0);
    }

    #[test]
    fn capabilities_are_kept_where_that_was_asked() {
        let mut process = Credentials::root();
        process.keep_capabilities = true;
        process.set_users3([5, 5, 5]).unwrap();
        assert_eq!((process.permitted, process.effective), (ALL, 0));
        process.set_capabilities(1 << SETUID, 1 << SETUID, 0).unwrap();
        assert!(process.may(SETUID) && !process.may(SETGID));
        assert_eq!(process.set_capabilities(1 << SETGID, 1 << SETGID, 0), Err(Refused));
        process.execute(None, None);
        assert_eq!((process.permitted, process.keep_capabilities), (0, false));
    }

    #[test]
    fn a_setuid_program_gives_its_owner_s_power() {
        let mut process = Credentials::root();
        process.set_user(1000).unwrap();
        process.execute(Some(0), None);
        assert_eq!(process.user, Ids { real: 1000, effective: 0, saved: 0, files: 0 });
        assert_eq!(process.effective, ALL);
        process.set_users3([0, 0, 0]).unwrap();
        assert_eq!(process.user, Ids::all(0));
    }

    #[test]
    fn ambient_capabilities_survive_an_ordinary_exec() {
        let mut process = Credentials::root();
        process.keep_capabilities = true;
        process.set_capabilities(ALL, ALL, 1 << MKNOD).unwrap();
        process.set_user(9).unwrap();
        process.raise_ambient(MKNOD).unwrap();
        assert_eq!(process.raise_ambient(CHOWN), Err(Refused));
        assert_eq!(process.raise_ambient(99), Err(Refused));
        process.execute(None, None);
        assert_eq!((process.permitted, process.effective), (1 << MKNOD, 1 << MKNOD));
        process.execute(Some(8), None);
        assert_eq!((process.permitted, process.ambient), (0, 0));
    }

    #[test]
    fn access_follows_owner_group_and_others() {
        let mut process = Credentials::root();
        let shadow = Owner { user: 0, group: 42, mode: libc::S_IFREG | 0o640 };
        assert!(may_access(&process, shadow, 6) && !may_access(&process, shadow, 1));
        process.set_groups(vec![42]).unwrap();
        process.set_group(1).unwrap();
        process.set_user(1).unwrap();
        assert!(may_access(&process, shadow, 4) && !may_access(&process, shadow, 2));
        // The owner's class alone counts for the owner.
        let own = Owner { user: 1, group: 42, mode: libc::S_IFREG | 0o077 };
        assert!(!may_access(&process, own, 4));
        let home = Owner { user: 0, group: 0, mode: libc::S_IFDIR | 0o711 };
        assert!(may_access(&process, home, 1) && !may_access(&process, home, 4));
    }

    #[test]
    fn equal_identities_have_one_number() {
        let mut identities = Identities::default();
        let mut user = Credentials::root();
        user.set_user(7).unwrap();
        let number = identities.number(user.clone()).unwrap();
        assert_eq!(identities.number(user.clone()), Some(number));
        assert_eq!(identities.get(number), &user);
        assert_eq!(identities.number(Credentials::root()), Some(0));
        assert_eq!(identities.get(usize::MAX), &Credentials::root());
    }

    proptest::proptest! {
        /// Whatever is called in whatever order: who has no root id and no capability gets neither back.
        #[test]
        fn no_order_of_calls_leads_back_to_root(calls in proptest::collection::vec((0u8..9, 0u32..4, 0u32..4, 0u32..4), 0..40)) {
            let mut process = Credentials::root();
            process.set_users3([1, 2, 3]).unwrap();
            for (call, a, b, c) in calls {
                let _ = match call {
                    0 => process.set_user(a),
                    1 => process.set_users2(a, b),
                    2 => process.set_users3([a, b, c]),
                    3 => { process.set_file_user(a); Ok(()) }
                    4 => process.set_group(a),
                    5 => process.set_groups(vec![a, b]),
                    6 => process.set_capabilities(u64::from(a) << 6, u64::from(b) << 6, 0),
                    7 => process.raise_ambient(a),
                    _ => { process.execute(None, None); Ok(()) }
                };
                proptest::prop_assert!(!process.user.any_root() && process.user.files != 0);
                proptest::prop_assert_eq!((process.permitted, process.effective), (0, 0));
            }
        }
    }
}
