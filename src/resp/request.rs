//! One request: the canonical bytes that go upstream, and where its arguments lie in them.

/// Where an argument lies in a request's canonical bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Offset of the first byte of the argument's `$length` header.
    pub header: usize,
    /// Offset of the argument's first byte.
    pub start: usize,
    /// Offset behind the argument's last byte.
    pub end: usize,
}

/// A complete request, borrowed from the buffer it was read into.
///
/// Invariant: `frame` is exactly the canonical encoding (`*n`, then `$len` and the bytes of each argument) of `args`,
/// and there is at least one argument.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    frame: &'a [u8],
    args: &'a [Arg],
}

impl<'a> Request<'a> {
    /// A request over its canonical bytes. Offsets of `args` are relative to `frame`.
    pub fn new(frame: &'a [u8], args: &'a [Arg]) -> Self {
        debug_assert!(!args.is_empty(), "a request has a name");
        debug_assert!(
            args.iter()
                .all(|arg| arg.header < arg.start && arg.start <= arg.end && arg.end + 2 <= frame.len())
        );
        Self { frame, args }
    }

    /// The canonical bytes, as they go upstream.
    pub fn frame(&self) -> &'a [u8] {
        self.frame
    }

    /// How many arguments it has, the command's name included (Redis' `argc`, at least 1).
    #[allow(clippy::len_without_is_empty, reason = "a request is never empty")]
    pub fn len(&self) -> usize {
        self.args.len()
    }

    /// Argument `index`; 0 is the command's name. Empty when there is no such argument.
    pub fn arg(&self, index: usize) -> &'a [u8] {
        self.args
            .get(index)
            .and_then(|arg| self.frame.get(arg.start..arg.end))
            .unwrap_or_default()
    }

    /// The command's name as the client wrote it.
    pub fn name(&self) -> &'a [u8] {
        self.arg(0)
    }

    /// All arguments from `index` on.
    pub fn args_from(&self, index: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let frame = self.frame;
        self.args
            .iter()
            .skip(index)
            .map(move |arg| frame.get(arg.start..arg.end).unwrap_or_default())
    }

    /// The canonical bytes of all arguments from `index` on, headers included; empty when there are none.
    ///
    /// Two requests of one command are the same request exactly when these bytes are the same.
    pub fn tail(&self, index: usize) -> &'a [u8] {
        self.args
            .get(index)
            .and_then(|arg| self.frame.get(arg.header..))
            .unwrap_or_default()
    }
}
