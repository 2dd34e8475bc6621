//! Rows of one kind of noun, reached by the row key on the media path and by the API's id elsewhere. Keys of removed rows
//! are used again: whoever keeps one is told when its row goes.

use std::collections::HashMap;

pub struct Table<T> {
    rows: Vec<Option<T>>,
    free: Vec<u32>,
    by_id: HashMap<u32, u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::new(),
        }
    }
}

impl<T> Table<T> {
    #[must_use]
    pub fn get(&self, row: u32) -> Option<&T> {
        self.rows.get(row as usize)?.as_ref()
    }
    pub fn get_mut(&mut self, row: u32) -> Option<&mut T> {
        self.rows.get_mut(row as usize)?.as_mut()
    }
    #[must_use]
    pub fn row(&self, id: u32) -> Option<u32> {
        self.by_id.get(&id).copied()
    }
    /// Every key is below this; some are of no row.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.rows.len() as u32
    }
    /// `None` when the id is taken.
    pub fn insert(&mut self, id: u32, value: T) -> Option<u32> {
        if self.by_id.contains_key(&id) {
            return None;
        }
        let row = self.free.pop().unwrap_or(self.rows.len() as u32);
        match self.rows.get_mut(row as usize) {
            Some(empty) => *empty = Some(value),
            None => self.rows.push(Some(value)),
        }
        self.by_id.insert(id, row);
        Some(row)
    }
    pub fn remove(&mut self, id: u32) -> Option<(u32, T)> {
        let row = self.by_id.remove(&id)?;
        let value = self.rows.get_mut(row as usize)?.take()?;
        self.free.push(row);
        Some((row, value))
    }
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.rows
            .iter()
            .enumerate()
            .filter_map(|(row, value)| Some((row as u32, value.as_ref()?)))
    }
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.rows
            .iter_mut()
            .enumerate()
            .filter_map(|(row, value)| Some((row as u32, value.as_mut()?)))
    }
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}
