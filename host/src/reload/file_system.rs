//! What a file system says of itself: whether it tells of all changes, and who may write to it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The numbers by which file systems know themselves in `statfs`, for those where others write unheard:
/// on another machine, or on the other side of a container's wall. Overlays aren't among them: what is written inside the container is heard.
const UNHEARD: [(u32, &str); 12] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
    (0x786f_4256, "vboxsf"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x7375_7245, "Coda"),
];

/// Others may write here. The sticky bit is no comfort: it keeps them from replacing, not from adding.
const WRITABLE_BY_ALL: u32 = 0o002;

/// The name of the file system below a folder, where changes may come without an event.
pub(super) fn unheard(folder: &Path) -> Option<&'static str> {
    let number = rustix::fs::statfs(folder).ok()?.f_type;
    name_of_unheard(u32::try_from(number & 0xffff_ffff).ok()?)
}

/// Whether any user of this machine may change a file, or put files into a folder.
pub(super) fn anyone_may_write(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.mode() & WRITABLE_BY_ALL != 0)
}

fn name_of_unheard(number: u32) -> Option<&'static str> {
    UNHEARD.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn network_and_container_file_systems_are_known_by_their_numbers() {
        assert_eq!(name_of_unheard(0xff53_4d42), Some("CIFS"));
        assert_eq!(name_of_unheard(0x6573_5546), Some("FUSE"));
        // ext4 and tmpfs.
        assert_eq!(name_of_unheard(0xef53), None);
        assert_eq!(name_of_unheard(0x0102_1994), None);
        // The kernel's own file system is never a network's.
        assert_eq!(unheard(Path::new("/proc")), None);
        assert_eq!(unheard(Path::new("/nowhere")), None);
    }

    #[test]
    fn who_may_write() {
        let folder = tempfile::tempdir().unwrap();
        for (mode, anyone) in [(0o755, false), (0o775, false), (0o777, true), (0o1777, true), (0o702, true)] {
            std::fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(anyone_may_write(folder.path()), anyone, "{mode:o}");
        }
    }
}
