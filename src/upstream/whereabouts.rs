//! Where the master is, for everything that connects to it.

use tokio::sync::watch;

use crate::config::Address;

/// Where the master is now; clones hear the same news. Whoever has a connection to it leaves when it is elsewhere.
#[derive(Clone, Debug)]
pub struct Whereabouts(watch::Receiver<Option<Address>>);

impl Whereabouts {
    /// What is known at first, and who tells what is known later.
    pub fn new(first: Option<Address>) -> (watch::Sender<Option<Address>>, Self) {
        let (tell, heard) = watch::channel(first);
        (tell, Self(heard))
    }

    /// Where it is now; `None`: that is not known.
    pub fn now(&self) -> Option<Address> {
        self.0.borrow().clone()
    }

    /// Waits until it is known where it is.
    pub async fn known(&self) -> Address {
        let mut heard = self.clone();
        loop {
            let now = heard.0.borrow_and_update().clone();
            match now {
                Some(address) => return address,
                None => heard.changed().await,
            }
        }
    }

    /// Waits until it is not, or not known to be, at `address`.
    pub async fn left(&self, address: &Address) {
        let mut heard = self.clone();
        while heard.0.borrow_and_update().as_ref() == Some(address) {
            heard.changed().await;
        }
    }

    /// Waits for news.
    pub async fn changed(&mut self) {
        // Nobody will tell any more when the process stops.
        if self.0.changed().await.is_err() {
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
                let address = heard.known().await;
                heard.left(&address).await;
                (address, heard.now())
            }
        });
        tokio::task::yield_now().await;
        tell.send_replace(Some(at(1)));
        tokio::task::yield_now().await;
        tell.send_replace(Some(at(2)));
        assert!(matches!(waiting.await.unwrap().1, Some(address) if address == at(2)));
    }
}
