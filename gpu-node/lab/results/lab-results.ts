/**
 * `results.json`: everything that one laboratory run measured, and what it was measured on. The runner writes it,
 * report and comparison read it; nothing in a report comes from anywhere else.
 */
import { z } from 'zod'

/** Files of another version are refused, so a changed meaning of a field takes a new number. */
export const RESULTS_FORMAT_VERSION = 1

const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hexadecimal digits')
const count = z.number().int().nonnegative()
const seconds = z.number().nonnegative()
const perplexity = z.number().positive()
const fraction = z.number().min(0).max(1)
const name = z.string().min(1)

/** Where it ran. */
const machineSchema = z.object({
  cpu: z.string(),
  /** Cores that the run was allowed to use, which may be fewer than the machine has. */
  cores: count,
  memoryBytes: count,
  os: z.string(),
  onnxruntime: z.string(),
})

/** What decides how long work takes. */
export const timingMachineSchema = z.object({ cpu: z.string(), threads: count })

const settingsSchema = z.object({
  /** Calibration sequences a domain. */
  samples: count,
  /** Tokens a calibration sequence. */
  length: count,
  seed: z.number().int(),
  /** `compensated` only in files of earlier versions: no run makes it any more. */
  propagation: z.enum(['dense', 'pruned', 'compensated']),
  /** Patterns of single linears in every mask, as they were asked for: the last that matches counts. */
  patternRules: z.record(z.string(), z.string()).optional(),
  /** Tokens an evaluation window; the first of each is not scored. */
  windowTokens: count,
  /** Most evaluation tokens a domain; null: the whole text. */
  evaluationTokens: count.nullable(),
})

const modelSchema = z.object({
  id: name,
  /** Hash over the dense linear weights, as mask files name their base. */
  baseSha256: sha256,
  parameters: count,
  layers: count,
  hidden: count,
})

const domainSchema = z.object({
  name,
  /** null: this domain is evaluated and never calibrated on. */
  calibration: z.object({ path: name, sha256, tokens: count }).nullable(),
  evaluation: z.object({
    /** Of the text. */
    sha256,
    /** Over the tokens of all windows; results of older versions lack it. */
    windowsSha256: sha256.optional(),
    /** Scored ones. */
    tokens: count,
    windows: count,
  }),
})

/** A file that was measured on a model, and the text that it was measured on. */
const measuredSchema = z.object({ sha256, textSha256: sha256 })

/** One model on one domain's evaluation text; nats a token. */
export const evaluationSchema = z.object({
  nllMean: z.number().nonnegative(),
  perplexity,
  /** Scored tokens. */
  tokens: count,
  /** Mean NLL of each window, in the text's order: what a paired bootstrap pairs. */
  windowNll: z.array(z.number().nonnegative()),
})

/**
 * Output error `tr(E H Eᵀ)` of one linear on the statistic that chose its weights, in that statistic's units:
 * only ratios compare between linears.
 */
const layerErrorSchema = z.object({
  /** Of the mask that scores alone select, where more than one refinement follows. */
  score: z.number().nonnegative().optional(),
  /** Before the last refinement (swaps or reconstruction); equals `after` where there is none. */
  before: z.number().nonnegative(),
  after: z.number().nonnegative(),
})

/** By the linear's weight name. */
export const layerErrorsSchema = z.record(z.string(), layerErrorSchema)

const stageSchema = z.object({
  /**
   * Whose statistics it was selected from: all so far where a method accumulates, sorted unless their order counts (with
   * pruned propagation), the newest one where it restarts, empty where it reads none.
   */
  domains: z.array(name),
  maskSha256: sha256,
  /** Fraction of pruned weights over all linears. */
  sparsity: fraction,
  seconds: z.object({ select: seconds, evaluate: seconds }),
  /** null where the method has no second moment to measure with. */
  layerErrors: layerErrorsSchema.nullable(),
  /** By domain, calibrated on or not. */
  evaluations: z.record(z.string(), evaluationSchema),
})

const matrixSchema = z.object({
  /** The permutation of the calibrated domains. */
  order: z.array(name).min(1),
  /**
   * `R[j][i]`: perplexity on `order[i]` after stage j, as many rows and columns as there are domains in `order`;
   * null above the diagonal and where it was not measured.
   */
  R: z.array(z.array(perplexity.nullable())),
  /** Fraction of mask bits that changed from stage j to j + 1; one fewer than stages. */
  churn: z.array(fraction),
})

/** The paper's four figures, in perplexity; null where there are too few stages to have one. */
const summarySchema = z.object({
  aBwt: z.number().nullable(),
  mBwt: z.number().nullable(),
  aPpl: perplexity.nullable(),
  mPpl: perplexity.nullable(),
  /** No mask changed over the stages of any permutation; the weights that stay may have, see `hasWeightStasis`. */
  weightStasis: z.boolean(),
})

const runSchema = z.object({
  /** What it was run for; sweeps may hold only the stage with everything accumulated, and no matrices. */
  purpose: z.enum(['main', 'sparsity-sweep', 'sample-sweep']),
  /** Name like `continual-wanda+swaps`; not a closed set, so that old reports read newer methods. */
  method: name,
  /** `0.5`, `2:4`. */
  pattern: name,
  scope: z.enum(['row', 'matrix']),
  samples: count,
  datasets: z.enum(['none', 'newest', 'accumulated']),
  stages: z.array(stageSchema),
  matrices: z.array(matrixSchema),
  summary: summarySchema.nullable(),
})

const calibrationSchema = z.object({
  domain: name,
  samples: count,
  seconds,
  tokens: count,
  tokensPerSecond: z.number().nonnegative(),
})

export const labResultsSchema = z.object({
  format_version: z.literal(RESULTS_FORMAT_VERSION),
  /** ISO 8601, when the run began. */
  created: z.iso.datetime(),
  /** Version of copal that ran it. */
  version: name,
  machine: machineSchema,
  settings: settingsSchema,
  model: modelSchema,
  domains: z.array(domainSchema),
  /** The orders of the calibrated domains that main runs play; of older results only their matrices tell. */
  permutations: z.array(z.array(name)).optional(),
  /** What shares ratios out over linears and rows, null where no method reads it; older results lack it. */
  sensitivities: z.object({ layers: measuredSchema.nullable(), rows: measuredSchema.nullable() }).optional(),
  /** Where seconds were measured, which may have been earlier; null where that was not kept. Older results lack it. */
  timedOn: z.array(timingMachineSchema.nullable()).optional(),
  /** What a reader must know of the texts: what is evaluated that was also calibrated on. Older results lack it. */
  warnings: z.array(z.string()).optional(),
  /** The dense model, by domain. */
  dense: z.record(z.string(), evaluationSchema),
  /** One per (purpose, method, pattern, scope, samples). */
  runs: z.array(runSchema),
  /** Of the dense model; with pruned propagation it is part of the selection. */
  calibration: z.array(calibrationSchema),
  /** What is still to be run, in words: an interrupted run renders, and says so. */
  incomplete: z.array(z.string()),
})

export type LabResults = z.output<typeof labResultsSchema>
/** See {@link LabResults} `timedOn`. */
export type TimingMachine = z.output<typeof timingMachineSchema>
export type LabDomain = z.output<typeof domainSchema>
export type LabEvaluation = z.output<typeof evaluationSchema>
export type LayerError = z.output<typeof layerErrorSchema>
export type LabStage = z.output<typeof stageSchema>
export type StageMatrix = z.output<typeof matrixSchema>
export type LabSummary = z.output<typeof summarySchema>
export type LabRun = z.output<typeof runSchema>
export type LabCalibration = z.output<typeof calibrationSchema>
