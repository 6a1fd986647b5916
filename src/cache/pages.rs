//! A vector that never moves what it holds: it grows by pages.
//!
//! One allocation that grows by reallocation costs more than it holds: what it leaves behind each time it moves is too
//! small for itself and seldom the right size for anybody else. A cache of 32 MiB took 40 that way, whichever allocator.

/// Elements of a page, as a power of two. Half a page is unused on average, in each of a cache's shards.
const BITS: u32 = 5;
const PAGE: usize = 1 << BITS;

/// Elements by number, in pages.
#[derive(Debug)]
pub(super) struct Pages<T> {
    /// Pages of one size, so that nothing has to be read to know how long one is.
    pages: Vec<Box<[T; PAGE]>>,
    /// Elements in all pages; behind them the last one is filled up. Invariant: there is no page that has none.
    len: usize,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self {
            pages: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Pages<T> {
    /// How many elements there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The element with this number; one that fills the last page up is nobody's.
    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.pages.get(at >> BITS)?.get(at % PAGE)
    }

    /// The same to change.
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.pages.get_mut(at >> BITS)?.get_mut(at % PAGE)
    }

    /// Adds an element behind the last; `make` makes it, and what fills a new page up.
    pub(super) fn push(&mut self, mut make: impl FnMut() -> T) {
        match self.get_mut(self.len) {
            Some(place) => *place = make(),
            None => self.pages.push(Box::new(std::array::from_fn(|_| make()))),
        }
        self.len += 1;
    }

    /// All elements in the order of their numbers.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter()).take(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_by_number_over_page_boundaries() {
        let mut pages = Pages::default();
        assert_eq!((pages.len(), pages.get(0)), (0, None));
        for number in 0..100_usize {
            pages.push(|| number);
            assert_eq!(pages.len(), number + 1);
        }
        assert!((0..100).all(|at| pages.get(at) == Some(&at)));
        assert_eq!(pages.get(128), None);
        *pages.get_mut(64).unwrap() = 7;
        assert_eq!(pages.iter().filter(|&&number| number == 7).count(), 2);
    }

    #[test]
    fn what_is_there_stays_where_it_is() {
        let mut pages = Pages::default();
        pages.push(|| 1);
        let first = std::ptr::from_ref(pages.get(0).unwrap());
        (0..1000).for_each(|number| pages.push(|| number));
        assert_eq!(first, std::ptr::from_ref(pages.get(0).unwrap()));
    }
}
