/** The types of a classifier of domains, its input and its output. */
import type { Novelty } from './novelty.ts'

/** A text whose domain is known. */
export interface LabelledText {
  text: string
  /** Mean dense embedding; empty where no node could give one. */
  embedding: readonly number[]
  domain: string
}

/** Texts of no domain that a classifier is trained against, so that it can tell texts which are of none. */
export interface Background {
  /** Names the texts: a classifier is trained anew when they change. */
  version: string
  /** The texts with their mean dense embeddings. */
  texts: readonly Omit<LabelledText, 'domain'>[]
}

/**
 * A linear machine of one output a class, over features that it shifts and scales itself. The classes are the domains, and
 * after them the background, if there is one.
 */
export interface LinearMachine {
  /** `[classes, features]` row-major. */
  weights: Float32Array
  /** Added to the output of each class. */
  bias: Float32Array
  /** Factor from outputs to log-probabilities, before they are normalised. */
  sharpness: number
}

/** A classifier of texts into domains, trained by `trainClassifier`. */
export interface DomainClassifier {
  /** Sorted; the machines' outputs have the same order. */
  domains: readonly string[]
  /** The texts of no domain that it was trained against; null for a classifier without. */
  background: {
    version: string
    /** Mean and deviation of the lead of the background over examples, each by machines that were fitted without it. */
    lead: [number, number]
    /** A text that is more unlike the domains is of none. */
    threshold: number
  } | null
  minTokens: number
  /** The machine over the character n-grams. */
  grams: LinearMachine & { inverseFrequencies: Float32Array }
  /** The machine over the embedding; null where the examples had none. */
  dense: (LinearMachine & { mean: Float32Array; scale: Float32Array }) | null
  /** How unlike the examples a text is, by its embedding; null where the examples had none. */
  novelty: Novelty | null
  /** A text without an embedding is rejected if the best domain's output of the n-grams, less that of the background, is below this. */
  gramThreshold: number
}

/** A text to classify. */
export interface UnlabelledText {
  text: string
  /** Empty where no node could give one: the n-grams then decide alone. */
  embedding: readonly number[]
  /** Length of the text that was embedded. */
  tokens: number
}

/** The domain of a text, or why it has none. */
export type Classification =
  | {
      domain: string
      /** Probability that the text is of the domain, 0 to 1. */
      probability: number
    }
  | {
      /** `too_short`: too few tokens to tell. `unknown`: unlike every domain. */
      rejected: 'too_short' | 'unknown'
      /** The least unlikely domain; null for a classifier without domains. */
      nearest: string | null
    }
