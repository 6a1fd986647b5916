//! All accounts: who has logged in, and until when that is remembered.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::account::{Account, Partition};
use super::holdings::{Held, Holdings};
use crate::coherence::{Doubt, Touch, Touches};
use crate::config::{Address, Credentials};
use crate::time::Instant;
use crate::topology::{NodeId, Owners};
use crate::tracking::Totals;
use crate::upstream::Identity;

/// Accounts that no session uses are looked for when so many are new. Chosen, not measured.
const SPARE: usize = 256;

/// Opens and closes parts of the near-cache.
pub trait Partitions: Send + Sync {
    /// A part for `identity`, and a tracked connection that logs in as it: to the primary, wherever that is, or to a `node` of
    /// a cluster. `None`: there are too many.
    fn open(&self, identity: &Identity, node: Option<&Address>) -> Option<Partition>;
    /// What all tracked connections did so far.
    fn totals(&self) -> Totals;
    /// Ends both: nothing of it is served again.
    fn close(&self, partition: &Partition);
}

/// What accounts are made by.
pub struct AccountSettings {
    /// What nearhit itself says to the server; `None`: nothing.
    pub own: Option<Credentials>,
    /// Clients must say who they are, even where the server does not want it.
    pub require_auth: bool,
    /// Every user has a part of the near-cache of their own; otherwise all share nearhit's.
    pub by_user: bool,
    /// How long an account no session uses is kept.
    pub idle_timeout: Duration,
    /// `None`: nothing is cached at all.
    pub partitions: Option<Box<dyn Partitions>>,
    /// Keys are spread over the nodes of a cluster: there is a part for each.
    pub cluster: bool,
}

/// All accounts.
pub struct Accounts {
    settings: AccountSettings,
    /// nearhit's own: whom its credentials say, or nobody in particular. Replaced when what the server thinks of it may
    /// have changed, so that new sessions do not share connections with old ones.
    own: ArcSwap<Account>,
    /// What every session begins as: `own`, or an account that may do nothing.
    initial: ArcSwap<Account>,
    /// Taken by AUTH, by RESET, and a few times a second by the control thread; never by other requests.
    known: Mutex<Known>,
    /// It is watched whether who says nothing needs a password. Relaxed: it only saves a question.
    strangers_watched: AtomicBool,
    /// There is somebody new, or somebody may be gone.
    change: Notify,
}

#[derive(Default)]
struct Known {
    accounts: HashMap<Key, Entry>,
    /// The nodes of a cluster that have keys.
    nodes: Vec<(NodeId, Address)>,
    /// How many there may be before unused ones are looked for.
    look_at: usize,
}

#[derive(PartialEq, Eq, Hash)]
enum Key {
    /// The account of clients that say this.
    Login(Credentials),
    /// An account nobody can become any more, or only by saying nothing: its identity's number.
    Numbered(u64),
}

struct Entry {
    account: Arc<Account>,
    unused_since: Option<Instant>,
}

impl Entry {
    fn new(account: &Arc<Account>) -> Self {
        Self {
            account: Arc::clone(account),
            unused_since: None,
        }
    }

    /// Only the registry gives accounts out, and it is locked: nobody can take it between this and its removal.
    fn is_unused(&self) -> bool {
        Arc::strong_count(&self.account) == 1
    }
}

impl Accounts {
    /// nearhit's own account, and no other.
    pub fn new(settings: AccountSettings) -> Self {
        let own = own_account(&settings, None, &[]);
        let initial = initial_account(&settings, &own);
        let accounts = Self {
            settings,
            own: ArcSwap::new(Arc::clone(&own)),
            initial: ArcSwap::new(initial),
            known: Mutex::default(),
            strangers_watched: AtomicBool::new(false),
            change: Notify::new(),
        };
        accounts.known.lock().accounts.insert(key_of(&own), Entry::new(&own));
        accounts
    }

    /// What a new session is.
    pub fn initial(&self) -> Arc<Account> {
        self.initial.load_full()
    }

    /// Whom nearhit's own credentials say, or nobody in particular.
    pub fn own(&self) -> Arc<Account> {
        self.own.load_full()
    }

    /// Who says `credentials`, which the server has just accepted.
    pub fn login(&self, credentials: &Credentials) -> Arc<Account> {
        let mut known = self.known.lock();
        let key = login_key(credentials);
        if let Some(entry) = known.accounts.get_mut(&key) {
            entry.unused_since = None;
            return Arc::clone(&entry.account);
        }
        if known.accounts.len() >= known.look_at {
            let unused = known.accounts.extract_if(|_, entry| entry.is_unused());
            unused.for_each(|(_, entry)| self.retire(&entry.account));
            known.look_at = known.accounts.len() + SPARE;
        }
        let identity = Identity::new(Some(credentials.clone()));
        let holdings = self.holdings_for(&identity, &known.nodes);
        let account = Arc::new(Account::holding(identity, holdings));
        known.accounts.insert(key, Entry::new(&account));
        self.change.notify_one();
        account
    }

    /// Ends accounts that no session has used for long. Call it about once a second.
    pub fn tidy(&self, now: Instant) {
        let mut known = self.known.lock();
        let limit = self.settings.idle_timeout;
        let idle = known.accounts.extract_if(|_, entry| {
            if !entry.is_unused() {
                entry.unused_since = None;
                return false;
            }
            now.since(*entry.unused_since.get_or_insert(now)) >= limit
        });
        idle.for_each(|(_, entry)| self.retire(&entry.account));
    }

    /// Returns when there is somebody new, or somebody may be gone.
    pub async fn changed(&self) {
        self.change.notified().await;
    }

    /// The name of every user somebody is; a name may come twice.
    pub fn users(&self) -> Vec<Box<[u8]>> {
        let all = self.all();
        all.iter().map(|account| account.identity().user().into()).collect()
    }

    /// What all tracked connections did so far.
    pub fn tracking_totals(&self) -> Totals {
        let partitions = self.settings.partitions.as_ref();
        partitions.map(|partitions| partitions.totals()).unwrap_or_default()
    }

    /// Has the server told which keys are read from memory.
    pub fn touch(&self, mut touches: Vec<Touches>) {
        if touches.is_empty() {
            return;
        }
        for account in self.all() {
            for partition in account.partitions() {
                // Where all share one partition, the first account is as good as any.
                let number = partition.origin.number();
                let theirs = touches.iter().position(|touches| touches.origin == number);
                if let Some(at) = theirs {
                    partition.tracking.touch(touches.swap_remove(at).keys);
                }
            }
        }
    }

    /// Has the owners of these slots asked whether they still are.
    pub fn ask_owners(&self, doubts: Vec<Doubt>, owners: &Owners) {
        let all = self.all();
        let is_up = |held: &Held<'_>| held.tracking.is_connected();
        let mut asked: HashMap<NodeId, Vec<Touch>> = HashMap::new();
        for doubt in doubts {
            if let Some(node) = owners.of(doubt.slot) {
                asked.entry(node).or_default().push(doubt.into());
            }
        }
        for (node, touches) in asked {
            // Whose connection it is does not matter.
            let mut held = all.iter().filter_map(|account| account.partition(Some(node)));
            if let Some(held) = held.find(is_up) {
                held.tracking.touch(touches);
            }
        }
    }

    /// From here on `nodes` are the nodes of a cluster that have keys: there is a part of the near-cache for each and no other.
    pub fn follow(&self, nodes: Vec<(NodeId, Address)>) {
        let mut known = self.known.lock();
        known.nodes = nodes;
        let Some(partitions) = &self.settings.partitions else {
            return;
        };
        // Where all share what is cached, this is done once and then once more for nothing.
        for entry in known.accounts.values() {
            entry.account.holdings().follow(&known.nodes, &**partitions);
        }
    }

    /// How many tracked connections are up.
    pub fn tracked(&self) -> u64 {
        let up = self.partitions().into_iter();
        up.filter(|partition| partition.tracking.is_connected()).count() as u64
    }

    /// Every part of the near-cache, once.
    pub fn partitions(&self) -> Vec<Partition> {
        let all = self.all();
        let mut partitions: Vec<_> = all.iter().flat_map(|account| account.partitions()).collect();
        partitions.sort_unstable_by_key(|partition| partition.origin.number());
        partitions.dedup_by_key(|partition| partition.origin.number());
        partitions
    }

    /// Whose replies come from the origin with this number; several where users share what is cached.
    pub fn users_of(&self, origin: u16) -> Vec<String> {
        let all = self.all();
        let theirs = all.iter().filter(|account| account.holdings().has(origin));
        let mut users: Vec<_> = theirs.map(|account| account.user_name()).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// Everybody who has said who they are.
    pub fn identities(&self) -> Vec<Identity> {
        let all = self.all();
        let known = all.iter().map(|account| account.identity());
        known
            .filter(|identity| identity.credentials().is_some())
            .cloned()
            .collect()
    }

    fn all(&self) -> Vec<Arc<Account>> {
        let known = self.known.lock();
        known
            .accounts
            .values()
            .map(|entry| Arc::clone(&entry.account))
            .collect()
    }

    /// What this user may do may have changed: nothing that was read before is served, no right is remembered, and where
    /// the default user may need a password now, new sessions do not share connections with old ones.
    pub fn user_changed(&self, user: &[u8]) {
        self.forget_user(user);
        if user == b"default" {
            self.strangers_changed();
        }
    }

    /// Nothing that was read for this user before is served, and no right is remembered.
    fn forget_user(&self, user: &[u8]) {
        let all = self.all();
        let theirs = all.iter().filter(|account| account.identity().user() == user);
        theirs.for_each(|account| account.forget());
    }

    /// What anybody may do may have changed.
    pub fn all_changed(&self) {
        self.change.notify_one();
        self.forget_all();
        self.strangers_changed();
    }

    /// Whether who says nothing needs a password may have changed: each finds out anew, and new sessions do not share
    /// connections with old ones.
    fn strangers_changed(&self) {
        self.change.notify_one();
        self.let_strangers_in();
        if self.settings.own.is_none() {
            self.renew_own();
        }
    }

    /// Who says nothing needs no password, as far as is known.
    pub fn let_strangers_in(&self) {
        for account in self.all() {
            account.set_locked_out(false);
            for partition in account.partitions() {
                partition.tracking.retry();
            }
        }
    }

    /// It is watched whether who says nothing needs a password.
    pub fn watch_strangers(&self) {
        self.strangers_watched.store(true, Ordering::Relaxed);
    }

    pub(super) fn are_strangers_watched(&self) -> bool {
        self.strangers_watched.load(Ordering::Relaxed)
    }

    /// Nothing that was read before is served, and no right is remembered.
    pub fn forget_all(&self) {
        self.all().iter().for_each(|account| account.forget());
    }

    /// No right is remembered.
    pub fn forget_rights(&self) {
        self.all().iter().for_each(|account| account.rights.forget());
    }

    /// The server has deleted this user: nobody is this user any more. Its sessions are the caller's to close.
    pub fn user_deleted(&self, user: &[u8]) {
        let is = |account: &Account| account.identity().credentials().is_some() && account.identity().user() == user;
        if is(&self.own()) {
            self.renew_own();
        }
        let mut known = self.known.lock();
        let gone = known.accounts.extract_if(|_, entry| is(&entry.account));
        gone.for_each(|(_, entry)| self.retire(&entry.account));
    }

    /// Who says nothing to the server, or what nearhit's own credentials say, has to say it again: connections that the
    /// server once took for somebody's are not for new sessions.
    pub fn renew_own(&self) {
        let mut known = self.known.lock();
        let old = self.own.load_full();
        let own = own_account(&self.settings, Some(old.holdings()), &known.nodes);
        if let Some(entry) = known.accounts.remove(&key_of(&old)) {
            known.accounts.insert(Key::Numbered(old.identity().number()), entry);
        }
        known.accounts.insert(key_of(&own), Entry::new(&own));
        self.initial.store(initial_account(&self.settings, &own));
        self.own.store(own);
        drop(old);
        // Partitions are few; one that no session has looked into need not wait.
        let unused = known
            .accounts
            .extract_if(|key, entry| matches!(key, Key::Numbered(_)) && entry.is_unused());
        unused.for_each(|(_, entry)| self.retire(&entry.account));
    }

    fn holdings_for(&self, identity: &Identity, nodes: &[(NodeId, Address)]) -> Holdings {
        if self.settings.by_user {
            return opened(&self.settings, identity, nodes);
        }
        self.own.load().holdings().clone()
    }

    /// Closes what was made for it alone.
    fn retire(&self, account: &Account) {
        account.identity().retire();
        if let Some(partitions) = self.settings.partitions.as_ref().filter(|_| self.settings.by_user) {
            account
                .partitions()
                .iter()
                .for_each(|partition| partitions.close(partition));
        }
    }
}

/// Parts of the near-cache for `identity`.
fn opened(settings: &AccountSettings, identity: &Identity, nodes: &[(NodeId, Address)]) -> Holdings {
    let Some(partitions) = &settings.partitions else {
        return Holdings::Nothing;
    };
    if !settings.cluster {
        return Holdings::one(partitions.open(identity, None));
    }
    let holdings = Holdings::by_node(identity.clone());
    holdings.follow(nodes, &**partitions);
    holdings
}

/// `old`: what everybody shares, where everybody does.
fn own_account(settings: &AccountSettings, old: Option<&Holdings>, nodes: &[(NodeId, Address)]) -> Arc<Account> {
    let identity = Identity::new(settings.own.clone());
    // Where everybody must say who they are, nobody in particular reads nothing.
    let reads = !(settings.require_auth && settings.by_user && settings.own.is_none());
    let holdings = match old.filter(|_| !settings.by_user) {
        Some(shared) => shared.clone(),
        None if reads => opened(settings, &identity, nodes),
        None => Holdings::Nothing,
    };
    Arc::new(Account::holding(identity, holdings))
}

fn initial_account(settings: &AccountSettings, own: &Arc<Account>) -> Arc<Account> {
    if settings.require_auth {
        Arc::new(Account::barred())
    } else {
        Arc::clone(own)
    }
}

fn key_of(account: &Account) -> Key {
    match account.identity().credentials() {
        Some(credentials) => login_key(credentials),
        None => Key::Numbered(account.identity().number()),
    }
}

/// `AUTH password` is short for `AUTH default password`.
fn login_key(credentials: &Credentials) -> Key {
    let mut credentials = credentials.clone();
    if credentials.username.is_empty() {
        credentials.username = (*b"default").into();
    }
    Key::Login(credentials)
}
