//! Text: words and their counts. One table lies in a file of its own.

use std::collections::BTreeMap;

const STOP: &str = include_str!("stop.txt");

pub fn counts(text: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let word = word.to_lowercase();
        if !STOP.lines().any(|stop| stop == word) {
            *counts.entry(word).or_insert(0) += 1;
        }
    }
    counts
}
