//! Listeners: bound before any thread starts, so that a busy port is an error of `start`.

use std::fs::Metadata;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{Listen, Server};
use crate::error::{Error, Kind, Result, Side};

/// A listener for clients.
pub(super) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, Place),
}

/// A Unix socket's file: its path, and which file it is there.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// Device and inode.
    file: (u64, u64),
}

impl Bound {
    /// Where it listens, with the port it really has.
    pub(super) fn address(&self) -> Listen {
        match self {
            Self::Tcp(listener) => Listen::Tcp(
                listener
                    .local_addr()
                    .unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0))),
            ),
            Self::Unix(_, place) => Listen::Unix {
                path: place.path.clone(),
                mode: None,
            },
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Self::Unix(_, place) = self {
            // Nobody listens there any more, unless somebody else has taken the place.
            if place
                .path
                .symlink_metadata()
                .is_ok_and(|there| identity(&there) == place.file)
            {
                let _gone_already = std::fs::remove_file(&place.path);
            }
        }
    }
}

/// Binds every address of the configuration.
pub(super) fn bind_all(server: &Server) -> Result<Vec<Bound>> {
    server
        .listen
        .iter()
        .map(|listen| match listen {
            Listen::Tcp(address) => bind_tcp(*address, server.tcp_backlog).map(Bound::Tcp),
            Listen::Unix { path, mode } => {
                bind_unix(path, *mode).map_err(|error| failed(&format!("unix://{}", path.display()), error))
            }
        })
        .collect()
}

/// Binds a TCP address.
pub(super) fn bind_tcp(address: SocketAddr, backlog: u32) -> Result<TcpListener> {
    let bind = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for connections of the process before to time out.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    bind().map_err(|error| failed(&address.to_string(), error))
}

/// Binds a Unix socket: made in a directory only we can enter, given its mode, then moved to its place, so that nobody
/// can connect in between. A socket nobody listens on any more is replaced; any other
/// file is left alone.
fn bind_unix(path: &Path, mode: Option<u32>) -> io::Result<Bound> {
    if let Ok(there) = path.symlink_metadata() {
        if !there.file_type().is_socket() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "a file is there that is no socket",
            ));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let private = tempfile::Builder::new().prefix(".nearhit-").tempdir_in(parent)?;
    let made = private.path().join("socket");
    let listener = UnixListener::bind(&made)?;
    if let Some(mode) = mode {
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(mode))?;
    }
    listener.set_nonblocking(true)?;
    let place = Place {
        path: path.to_owned(),
        file: identity(&made.symlink_metadata()?),
    };
    std::fs::rename(&made, path)?;
    Ok(Bound::Unix(listener, place))
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

fn failed(address: &str, error: io::Error) -> Error {
    Error::new(Side::Config, Kind::Bind, format!("listen on {address}")).with_source(error)
}
