/** The types of a classifier of domains, its input and its output. */
import type { Novelty } from './novelty.ts'

/** A text whose domain is known. */
export interface LabelledText {
  text: string
  /** Mean dense embedding; empty where no node could give one. */
  embedding: readonly number[]
  domain: string
}

/** Settings of a training. */
export interface TrainingOptions {
  /** Most examples that are trained on, drawn evenly from the domains. 600 by default, which bounds the time. */
  maxExamples?: number
  /** Share of the examples' own kinds that may be rejected as unknown. 0.03 by default. */
  falseRejections?: number
  /** Texts of fewer tokens are not classified. 48 by default. */
  minTokens?: number
}

/** A linear machine of one output a domain, over features that it shifts and scales itself. */
export interface LinearMachine {
  /** `[domains, features]` row-major. */
  weights: Float32Array
  /** Added to the output of each domain. */
  bias: Float32Array
  /** Factor from outputs to log-probabilities, before they are normalised. */
  sharpness: number
}

/** A classifier of texts into domains, trained by `trainClassifier`. */
export interface DomainClassifier {
  /** Sorted; the machines' outputs have the same order. */
  domains: readonly string[]
  minTokens: number
  /** The machine over the character n-grams. */
  grams: LinearMachine & { inverseFrequencies: Float32Array }
  /** The machine over the embedding; null where the examples had none. */
  dense: (LinearMachine & { mean: Float32Array; scale: Float32Array }) | null
  /** Tells texts that are like no domain, by their embedding; null where the examples had none. */
  novelty: Novelty | null
  /** A text without an embedding is rejected if the best output of the n-grams is below this. */
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
      /** Difference to the probability of the second best domain; 1 where there is one domain only. */
      margin: number
    }
  | {
      /** `too_short`: too few tokens to tell. `unknown`: unlike every domain. */
      rejected: 'too_short' | 'unknown'
      /** The least unlikely domain; null for a classifier without domains. */
      nearest: string | null
    }
