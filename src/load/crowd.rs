//! All connections of a load, and the one epoll that watches them.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::lane::Lane;
use super::record::{Came, Record};
use super::script::{Exchange, Script};
use super::socket::Server;
use crate::error::{Error, Kind, Result, Side};
use crate::time::Instant;

/// Large enough that one read takes a batch of replies, or a good part of a large value.
const READ_BYTES: usize = 256 * 1024;

/// Connections, by number.
pub(super) struct Crowd<'a> {
    script: &'a Script,
    lanes: Vec<Lane>,
    /// Which lanes the epoll watches for room to write, beside replies.
    watched: Vec<bool>,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
}

impl<'a> Crowd<'a> {
    pub(super) fn connect(server: Server<'_>, script: &'a Script, count: usize) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| os("create an epoll", error))?;
        let mut lanes = Vec::with_capacity(count);
        for index in 0..count {
            let lane = Lane::connect(server)?;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &lane, data, epoll::EventFlags::IN).map_err(|error| os("watch a connection", error))?;
            lanes.push(lane);
        }
        Ok(Self {
            script,
            watched: vec![false; lanes.len()],
            events: Vec::with_capacity(count.max(1)),
            lanes,
            epoll,
            buffer: vec![0; READ_BYTES],
        })
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether nobody waits for anything.
    pub(super) fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.waiting() == 0)
    }

    /// Adds a request to what a connection has to send; [`Crowd::push`] sends it.
    pub(super) fn ask(&mut self, index: usize, exchange: Exchange, due: Instant) {
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.ask(self.script, exchange, due);
        }
    }

    /// Writes what a lane has to send, and has the epoll watch for room exactly while some of it is left.
    pub(super) fn push(&mut self, index: usize) -> Result<()> {
        let (Some(lane), Some(watched)) = (self.lanes.get_mut(index), self.watched.get_mut(index)) else {
            return Ok(());
        };
        lane.flush()?;
        if lane.has_unsent() == *watched {
            return Ok(());
        }
        *watched = !*watched;
        let flags = match *watched {
            true => epoll::EventFlags::IN | epoll::EventFlags::OUT,
            false => epoll::EventFlags::IN,
        };
        epoll::modify(&self.epoll, &*lane, epoll::EventData::new_u64(index as u64), flags)
            .map_err(|error| os("watch a connection", error))
    }

    /// How many things happened.
    pub(super) fn events(&self) -> usize {
        self.events.len()
    }

    /// Writes and reads as an event says; gives the connection if all its requests are answered now.
    pub(super) fn serve(&mut self, event: usize, record: &mut Record) -> Result<Option<usize>> {
        let Some((index, flags)) = self.events.get(event).map(|event| (event.data.u64(), event.flags)) else {
            return Ok(None);
        };
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        if flags.contains(epoll::EventFlags::OUT) {
            self.push(index)?;
        }
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(None);
        };
        // What only had room to write is not read: a lane without anything to read is not answered by it either.
        if !flags.intersects(!epoll::EventFlags::OUT) {
            return Ok(None);
        }
        let mut came = Came::default();
        lane.receive(self.script, &mut self.buffer, |due| came.answered(due, record))?;
        Ok((lane.waiting() == 0 && came.any).then_some(index))
    }

    /// Waits until something happened, how much [`Crowd::events`] says; false when nothing did for so long.
    pub(super) fn wait(&mut self, patience: Duration) -> Result<bool> {
        let patience = Timespec::try_from(patience)
            .map_err(|error| Error::new(Side::Internal, Kind::Invalid, "a timeout").with_source(error))?;
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&patience)) {
            Ok(count) => Ok(count > 0),
            // A signal: nothing happened, and not for long.
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(os("wait for replies", error)),
        }
    }
}

fn os(what: &str, error: rustix::io::Errno) -> Error {
    Error::new(Side::Internal, Kind::Io, what).with_source(error)
}
