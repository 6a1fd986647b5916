//! What a TLS socket does with what its socket has no room for, and how it ends.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::tls::TlsSocket;
use crate::tls::{ClientTls, Files};

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

type ServerStream = StreamOwned<ServerConnection, std::net::TcpStream>;

/// A socket whose server does `work` once the handshake is done, in a thread of its own.
async fn connected<T: Send + 'static>(
    work: impl FnOnce(ServerStream) -> T + Send + 'static,
) -> (TlsSocket, JoinHandle<T>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), made.cert.pem()).expect("written");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a usable certificate");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut session = ServerConnection::new(Arc::new(config)).expect("a session");
        while session.is_handshaking() {
            session.complete_io(&mut stream).expect("a handshake");
        }
        work(StreamOwned::new(session, stream))
    });
    let tls = ClientTls::load(&Files {
        ca_file: Some(file.path()),
        cert_file: None,
        key_file: None,
        server_name: "",
        skip_verify: false,
    });
    let stream = TcpStream::connect(address).await.expect("connected");
    let socket = TlsSocket::connect(stream, &tls.expect("usable files"), "localhost").await;
    (socket.expect("a handshake"), server)
}

fn block_on(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .expect("a runtime")
        .block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("done in time") });
}

/// A server that reads nothing until it is told how much, and then answers.
async fn answering_late() -> (TlsSocket, mpsc::Sender<usize>, JoinHandle<()>) {
    let (tell, told) = mpsc::channel::<usize>();
    let (socket, server) = connected(move |mut stream| {
        let mut all = vec![0; told.recv().expect("a number")];
        stream.read_exact(&mut all).expect("all of it");
        stream.write_all(b"ok").expect("sent");
        stream.flush().expect("sent");
    })
    .await;
    (socket, tell, server)
}

/// Writes until the socket is full and the session holds the rest; gives how much was written.
async fn fill(socket: &mut TlsSocket) -> usize {
    let mut written = 0;
    while !socket.holds_unwritten() {
        written += poll_fn(|cx| Pin::new(&mut *socket).poll_write(cx, &[b'x'; 8 * 1024]))
            .await
            .expect("taken");
    }
    written
}

#[test]
fn whoever_waits_for_an_answer_pushes_out_what_it_is_to() {
    block_on(async {
        let (mut socket, tell, server) = answering_late().await;
        let written = fill(&mut socket).await;
        tell.send(written).expect("the server");
        let mut answer = [0; 2];
        socket.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"ok");
        server.join().expect("the server");
    });
}

#[test]
fn a_flush_waits_until_the_kernel_has_all_of_it() {
    block_on(async {
        let (mut socket, tell, server) = answering_late().await;
        let written = fill(&mut socket).await;
        let waits = poll_fn(|cx| std::task::Poll::Ready(Pin::new(&mut socket).poll_flush(cx).is_pending())).await;
        assert!(waits, "nothing was read at the other end");
        tell.send(written).expect("the server");
        socket.flush().await.expect("flushed");
        assert!(!socket.holds_unwritten());
        server.join().expect("the server");
    });
}

#[test]
fn a_socket_that_is_dropped_says_goodbye() {
    block_on(async {
        let (socket, server) = connected(|mut stream| stream.read(&mut [0; 8])).await;
        drop(socket);
        // Without a goodbye it would be an error: an unexpected end.
        assert_eq!(server.join().expect("the server").expect("an end"), 0);
    });
}

#[test]
fn a_server_that_is_gone_without_a_goodbye_is_an_end_and_no_error() {
    block_on(async {
        let (mut socket, server) = connected(|stream| drop(stream.sock)).await;
        assert_eq!(socket.read(&mut [0; 8]).await.expect("an end"), 0);
        server.join().expect("the server");
    });
}

#[test]
fn errors_of_the_system_stay_what_they_are() {
    block_on(async {
        let (mut socket, server) = connected(|stream| {
            socket2::SockRef::from(&stream.sock)
                .set_linger(Some(Duration::ZERO))
                .expect("a reset");
            drop(stream.sock);
        })
        .await;
        server.join().expect("the server");
        let error = socket.read(&mut [0; 8]).await.expect_err("a reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}
