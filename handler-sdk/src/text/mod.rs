//! Handlers of texts: from what a client wrote to the tokens that a model was trained on, and to the classes' probabilities.

mod classifier;
mod clean;
mod contractions;
mod encoder;
mod settings;
#[cfg(feature = "tokenizers")]
mod tokenizer;
mod vocabulary;
mod words;

pub use classifier::TextClassifier;
pub use clean::clean;
pub use vocabulary::Vocabulary;
pub use words::basic_english;
pub use words::ngrams;

#[cfg(test)]
mod tests;
