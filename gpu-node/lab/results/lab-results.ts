/**
 * Schema of `results.json`: everything that one laboratory run measured, and on which inputs. The runner writes it;
 * report and comparison read nothing else.
 */
import { z } from 'zod'

/** Files of another version are rejected; raise it when the meaning of a field changes. */
export const RESULTS_FORMAT_VERSION = 1

const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hexadecimal digits')
const count = z.number().int().nonnegative()
const seconds = z.number().nonnegative()
const perplexity = z.number().positive()
const fraction = z.number().min(0).max(1)
const name = z.string().min(1)

/** The machine of the run. */
const machineSchema = z.object({
  cpu: z.string(),
  /** Cores that the run could use, possibly fewer than the machine has. */
  cores: count,
  memoryBytes: count,
  os: z.string(),
  onnxruntime: z.string(),
})

/** The machine on which seconds were measured. */
export const timingMachineSchema = z.object({ cpu: z.string(), threads: count })

const settingsSchema = z.object({
  /** Calibration sequences per domain. */
  samples: count,
  /** Tokens per calibration sequence. */
  length: count,
  seed: z.number().int(),
  /** `compensated` occurs only in files of earlier versions. */
  propagation: z.enum(['dense', 'pruned', 'compensated']),
  /** Patterns of single linears in every mask, by glob as the user gave them: the last match counts. */
  patternRules: z.record(z.string(), z.string()).optional(),
  /** Tokens per evaluation window; the first of each is not scored. */
  windowTokens: count,
  /** Maximum evaluation tokens per domain; null: the whole text. */
  evaluationTokens: count.nullable(),
})

const modelSchema = z.object({
  id: name,
  /** Hash of the dense linear weights, by which mask files name their base. */
  baseSha256: sha256,
  parameters: count,
  layers: count,
  hidden: count,
})

const domainSchema = z.object({
  name,
  /** null: the domain is only evaluated. */
  calibration: z.object({ path: name, sha256, tokens: count }).nullable(),
  evaluation: z.object({
    /** Hash of the text. */
    sha256,
    /** Hash of the tokens of all windows; results of older versions lack it. */
    windowsSha256: sha256.optional(),
    /** Scored tokens. */
    tokens: count,
    windows: count,
  }),
})

/** Hashes of a sensitivity file and of the text on which it was measured. */
const measuredSchema = z.object({ sha256, textSha256: sha256 })

/** The evaluation of one model on one domain's text, in nats per token. */
export const evaluationSchema = z.object({
  nllMean: z.number().nonnegative(),
  perplexity,
  /** Scored tokens. */
  tokens: count,
  /** Mean NLL of each window in the order of the text; the paired bootstrap pairs these. */
  windowNll: z.array(z.number().nonnegative()),
})

/**
 * Output error `tr(E H Eᵀ)` of one linear on the statistic by which its weights were selected, in the units of that
 * statistic: only ratios are comparable between linears.
 */
const layerErrorSchema = z.object({
  /** Error of the mask selected by scores alone; present if more than one refinement follows. */
  score: z.number().nonnegative().optional(),
  /** Error before the last refinement (exchange or reconstruction); equals `after` if there is none. */
  before: z.number().nonnegative(),
  after: z.number().nonnegative(),
})

/** Errors by the name of the linear's weight. */
export const layerErrorsSchema = z.record(z.string(), layerErrorSchema)

const stageSchema = z.object({
  /**
   * Domains whose statistics the mask was selected from: all so far for an accumulating method (sorted unless their
   * order matters, with pruned propagation), the newest one for a restarting method, none for a method that reads no
   * statistics.
   */
  domains: z.array(name),
  maskSha256: sha256,
  /** Fraction of weights pruned over all linears. */
  sparsity: fraction,
  seconds: z.object({ select: seconds, evaluate: seconds }),
  /** null if the method has no second moment to measure them with. */
  layerErrors: layerErrorsSchema.nullable(),
  /** By domain, including domains that are only evaluated. */
  evaluations: z.record(z.string(), evaluationSchema),
})

const matrixSchema = z.object({
  /** A permutation of the calibrated domains. */
  order: z.array(name).min(1),
  /**
   * `R[j][i]`: perplexity on `order[i]` after stage j, with one row and column per domain in `order`; null above the
   * diagonal and where it was not measured.
   */
  R: z.array(z.array(perplexity.nullable())),
  /** Fraction of mask bits that changed from stage j to j + 1; one entry fewer than stages. */
  churn: z.array(fraction),
})

/** The four figures of the paper, in perplexity; null if there are too few stages. */
const summarySchema = z.object({
  aBwt: z.number().nullable(),
  mBwt: z.number().nullable(),
  aPpl: perplexity.nullable(),
  mPpl: perplexity.nullable(),
  /**
   * Whether no mask changed between stages of any permutation; surviving weights may have changed (`hasWeightStasis`).
   */
  weightStasis: z.boolean(),
})

const runSchema = z.object({
  /** Purpose of the run; sweeps may hold only the fully accumulated stage, and no matrices. */
  purpose: z.enum(['main', 'sparsity-sweep', 'sample-sweep']),
  /** A name such as `continual-wanda+swaps`; any string, so that older versions can report newer methods. */
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

/** Schema of a `results.json` file. */
export const labResultsSchema = z.object({
  format_version: z.literal(RESULTS_FORMAT_VERSION),
  /** Start of the run, ISO 8601. */
  created: z.iso.datetime(),
  /** Version of copal. */
  version: name,
  machine: machineSchema,
  settings: settingsSchema,
  model: modelSchema,
  domains: z.array(domainSchema),
  /** Orders of the calibrated domains in main runs; older results lack it and show orders only in their matrices. */
  permutations: z.array(z.array(name)).optional(),
  /**
   * Sensitivities that distribute ratios over linears and rows; null if no method reads them. Older results lack it.
   */
  sensitivities: z.object({ layers: measuredSchema.nullable(), rows: measuredSchema.nullable() }).optional(),
  /** Machines on which seconds were measured, perhaps by earlier runs; null if not recorded. Older results lack it. */
  timedOn: z.array(timingMachineSchema.nullable()).optional(),
  /** Warnings about the texts, such as evaluation text that was also calibrated on. Older results lack it. */
  warnings: z.array(z.string()).optional(),
  /** Evaluations of the dense model, by domain. */
  dense: z.record(z.string(), evaluationSchema),
  /** One per (purpose, method, pattern, scope, samples). */
  runs: z.array(runSchema),
  /** Calibrations of the dense model; with pruned propagation calibration is part of the selection. */
  calibration: z.array(calibrationSchema),
  /** Descriptions of the work that is still to be done; reports of interrupted runs print them. */
  incomplete: z.array(z.string()),
})

/** The contents of a `results.json` file. */
export type LabResults = z.output<typeof labResultsSchema>
/** A machine on which seconds were measured, see `timedOn` of {@link LabResults}. */
export type TimingMachine = z.output<typeof timingMachineSchema>
/** A domain, and the texts that were used for it. */
export type LabDomain = z.output<typeof domainSchema>
/** The evaluation of one model on one domain. */
export type LabEvaluation = z.output<typeof evaluationSchema>
/** The output error of one linear. */
export type LayerError = z.output<typeof layerErrorSchema>
/** One mask of a run, and its evaluations. */
export type LabStage = z.output<typeof stageSchema>
/** The perplexities of one permutation, by stage and dataset. */
export type StageMatrix = z.output<typeof matrixSchema>
/** The summary of a run over its permutations. */
export type LabSummary = z.output<typeof summarySchema>
/** One method at one pattern, scope and number of samples. */
export type LabRun = z.output<typeof runSchema>
/** The cost of one calibration. */
export type LabCalibration = z.output<typeof calibrationSchema>
