//! Whether a clone is still one that git can be shown: what it would follow, wait for or take on
//! trust when it reads the clone's objects is refused and named.

use std::path::Path;

use crate::git::folder::{Folder, Kind, Next, Reach, Seen, Unreadable, walk};
use crate::job::limits;

/// Opens the `.git` of a clone, if it is a folder of its own.
pub(super) fn open_git(folder: &Path) -> Result<Folder, Unreadable> {
    let no_clone = |why: String| Unreadable::NoClone(format!("{}{why}", folder.display()));
    let place = match Folder::open(folder) {
        Ok(Some(place)) => place,
        Ok(None) => return Err(no_clone(" is gone".into())),
        Err(Unreadable::Hostile(why)) => return Err(Unreadable::NoClone(why)),
        Err(other) => return Err(other),
    };
    match place.stat(".git")?.map(|stat| stat.kind) {
        None => return Err(no_clone(" has no .git any more".into())),
        Some(Kind::Folder) => {}
        Some(kind) => return Err(no_clone(format!("/.git is {kind}, not a folder"))),
    }
    place.folder(".git")?.ok_or_else(|| no_clone(" has no .git any more".into()))
}

/// Refuses what would lead git elsewhere, or make it wait for ever, when it reads the objects.
pub(super) fn vet(git: &Folder) -> Result<(), Unreadable> {
    const MISLEADING: [(&str, &str); 3] = [
        ("commondir", "makes git look for its objects elsewhere"),
        ("shallow", "cuts its history short"),
        ("gitdir", "makes git look for its files elsewhere"),
    ];
    let path = git.path().display();
    for (name, what) in MISLEADING {
        if git.has(name)? {
            return Err(Unreadable::Hostile(format!("{path}/{name} {what}")));
        }
    }
    if let Some(info) = git.folder("info")?
        && info.has("grafts")?
    {
        return Err(Unreadable::Hostile(format!("{path}/info/grafts rewrites its history")));
    }
    if git.has("reftable")? {
        let why = format!("{path}/reftable holds its references, which kugetsu does not read");
        return Err(Unreadable::Hostile(why));
    }
    for name in ["objects", "refs", "HEAD"] {
        if !git.has(name)? {
            return Err(Unreadable::NoClone(format!("{path}/{name} is gone")));
        }
    }
    let objects = git.folder("objects")?;
    let objects = objects.ok_or_else(|| Unreadable::NoClone(format!("{path}/objects is gone")))?;
    if let Some(info) = objects.folder("info")? {
        for name in ["alternates", "http-alternates"] {
            if info.has(name)? {
                let why = format!("{path}/objects/info/{name} brings objects from elsewhere");
                return Err(Unreadable::Hostile(why));
            }
        }
    }
    vet_objects(objects)
}

/// Only regular files and folders, so many and so deep.
fn vet_objects(objects: Folder) -> Result<(), Unreadable> {
    let reach = Reach {
        entries_max: limits::CLONE_OBJECT_FILES_MAX,
        depth_max: limits::CLONE_OBJECT_DEPTH_MAX,
    };
    walk(objects, reach, |seen| match seen {
        Seen::Entry { folder, entry, .. } => match entry.kind {
            Kind::File | Kind::Folder => Ok(Next::Enter),
            kind @ (Kind::Link | Kind::Pipe | Kind::Socket | Kind::Device) => {
                let path = folder.path().join(&entry.name);
                let why = format!("{} is {kind} among the objects", path.display());
                Err(Unreadable::Hostile(why))
            }
        },
        Seen::Unseen { why, .. } => Err(why),
    })
}
