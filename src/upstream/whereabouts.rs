//! Where the master is, for everything that connects to it.

use tokio::sync::watch;

use crate::config::Address;

/// Where the master is now; clones hear the same news. Whoever has a connection to it leaves when it is elsewhere.
#[derive(Clone, Debug)]
pub struct Whereabouts {
    place: watch::Receiver<Option<Address>>,
    /// How often its name has led elsewhere.
    turns: watch::Receiver<u64>,
}

/// Where the master was when somebody asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// Its address.
    pub address: Address,
    turn: u64,
}

/// Who tells where the master is.
#[derive(Debug)]
pub struct Teller {
    /// Its address; `None`: it is not known.
    pub place: watch::Sender<Option<Address>>,
    /// The address is a name that leads elsewhere now: add one.
    pub turns: watch::Sender<u64>,
}

impl Whereabouts {
    /// What is known at first, and who tells what is known later.
    pub fn new(first: Option<Address>) -> (Teller, Self) {
        let ((place, heard), (turns, turned)) = (watch::channel(first), watch::channel(0));
        let whereabouts = Self {
            place: heard,
            turns: turned,
        };
        (Teller { place, turns }, whereabouts)
    }

    /// How often its name has led elsewhere.
    pub fn turn(&self) -> u64 {
        *self.turns.borrow()
    }

    /// Where it is now; `None`: that is not known.
    pub fn now(&self) -> Option<Address> {
        self.place.borrow().clone()
    }

    /// Waits until it is known where it is.
    pub async fn known(&self) -> Here {
        let mut heard = self.clone();
        loop {
            let turn = *heard.turns.borrow_and_update();
            let now = heard.place.borrow_and_update().clone();
            match now {
                Some(address) => return Here { address, turn },
                None => heard.changed().await,
            }
        }
    }

    /// Waits until it is not, or not known to be, `here`.
    pub async fn left(&self, here: &Here) {
        let mut heard = self.clone();
        let is_here = |heard: &mut Self| {
            let same_turn = *heard.turns.borrow_and_update() == here.turn;
            same_turn && heard.place.borrow_and_update().as_ref() == Some(&here.address)
        };
        while is_here(&mut heard) {
            heard.changed().await;
        }
    }

    /// Waits for news.
    pub async fn changed(&mut self) {
        let over = tokio::select! {
            news = self.place.changed() => news.is_err(),
            news = self.turns.changed() => news.is_err(),
        };
        // Nobody will tell any more when the process stops.
        if over {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Address {
        let host = "m".to_owned();
        Address::Tcp { host, port }
    }

    #[tokio::test]
    async fn whoever_asks_hears_where_it_is_and_when_it_is_there_no_more() {
        let (tell, heard) = Whereabouts::new(None);
        assert_eq!(heard.now(), None);
        let waiting = tokio::spawn({
            let heard = heard.clone();
            async move {
                let here = heard.known().await;
                heard.left(&here).await;
                (here.address, heard.now())
            }
        });
        tokio::task::yield_now().await;
        tell.place.send_replace(Some(at(1)));
        tokio::task::yield_now().await;
        tell.place.send_replace(Some(at(2)));
        assert!(matches!(waiting.await.unwrap().1, Some(address) if address == at(2)));
    }

    #[tokio::test]
    async fn a_name_that_leads_elsewhere_is_another_place() {
        let (tell, heard) = Whereabouts::new(Some(at(1)));
        let before = heard.known().await;
        tell.turns.send_modify(|turns| *turns += 1);
        heard.left(&before).await;
        let after = heard.known().await;
        assert_eq!((after.address, heard.turn()), (before.address, 1));
    }
}
