/** Jobs that the gateway hands to nodes in heartbeat responses, and their results. */
import { z } from 'zod'
import { boundedArray, boundedRecord } from './bounded-collections.ts'
import { count, modelId, sha256Hex, traceparent } from './identifiers.ts'
import { domainName } from './inference-fields.ts'
import { MAX_LINEARS, selectionSpec } from './selection.ts'

/** Largest dataset: the gateway has it in the memory of a Worker. */
export const MAX_DATASET_BYTES = 128 * 1024 * 1024

/**
 * A dataset that the gateway froze: newline-delimited {@link TextSample}s, named by its SHA-256. Each line also names its
 * domain, so that no two domains share a dataset and the texts of one domain can be deleted.
 */
export const datasetRef = z.object({
  sha256: sha256Hex,
  /** A domain, or `(general)` for the operator's holdout. */
  domain: z.string().min(1).max(64),
  samples: count,
  /** Size of its file; absent from older gateways. */
  bytes: count.optional(),
  /** When its texts were frozen, Unix milliseconds; the half-life of statistics counts from it. */
  createdAt: count.optional(),
  /** True: its texts were deleted because of their age. It counts by its statistics alone, and must not be fetched. */
  expired: z.boolean().optional(),
})

/** A dataset that the gateway froze. */
export type DatasetRef = z.output<typeof datasetRef>

/** A statistics artifact in the gateway's storage: the sum over some datasets of one domain. */
export const statisticsRef = z.object({
  artifact: sha256Hex,
  domain: domainName,
  datasets: boundedArray(sha256Hex),
  bytes: count,
})

/** A statistics artifact in the gateway's storage. */
export type StatisticsRef = z.output<typeof statisticsRef>

/** One line of a dataset file. */
export const textSample = z.object({ text: z.string().min(1) })

/** One line of a dataset file. */
export type TextSample = z.output<typeof textSample>

/**
 * A calibration job: accumulate statistics of datasets and select a mask from them. Heartbeat responses list a job until the
 * node reports its end. Jobs are idempotent: the same job run twice gives the same result.
 */
export const calibrateJob = z.object({
  kind: z.literal('calibrate'),
  id: z.string(),
  model: modelId,
  /** Share of the node's time that the job may take; absent, all that requests leave. */
  nodeShare: z.number().gt(0).max(1).optional(),
  /** Datasets of this update, to calibrate unless their statistics are on disk. */
  datasets: z.array(datasetRef),
  /** Datasets of earlier updates, whose statistics also count; calibrated again where this node lacks them. */
  accumulated: z.array(datasetRef),
  /** Maximum sequences of `length` consecutive tokens from each dataset. */
  samples: z.int().min(1).max(4096),
  length: z.int().min(16).max(32768),
  seed: count,
  selection: selectionSpec,
  parent: sha256Hex.nullable(),
  /** Statistics that the node may fetch instead of calibrating their datasets. */
  statistics: z.array(statisticsRef).optional(),
  /** If given, a dataset counts half after this many days. */
  halfLifeDays: z.number().gt(0).optional(),
  /** A mask that another node selected from the same input; the result tells how many bits agree with it. */
  compareWith: sha256Hex.optional(),
  /** Creation time of the update; part of the mask file, so that the job run twice gives the same bytes. */
  created: z.iso.datetime(),
  /** The span of the update's step. */
  traceparent,
})

/** An evaluation job: the loss of a mask on holdouts. */
export const evaluateJob = z.object({
  kind: z.literal('evaluate'),
  id: z.string(),
  model: modelId,
  /** Share of the node's time that the job may take; absent, all that requests leave. */
  nodeShare: z.number().gt(0).max(1).optional(),
  /** The mask to evaluate; null is dense. */
  mask: sha256Hex.nullable(),
  holdouts: z.array(datasetRef),
  windowTokens: z.int().min(16).max(32768),
  /** Whether to check what the weights generate for fixed prompts. */
  checkGeneration: z.boolean().optional(),
  /** The span of the update's step. */
  traceparent,
})

/** A job that the gateway hands to a node. */
export const job = z.discriminatedUnion('kind', [calibrateJob, evaluateJob])

/** A job that the gateway hands to a node. */
export type Job = z.output<typeof job>

/** A calibration job. */
export type CalibrateJob = z.output<typeof calibrateJob>

/** An evaluation job. */
export type EvaluateJob = z.output<typeof evaluateJob>

/** Layer output errors before and after a refinement, by linear. */
const errorsByLinear = boundedRecord(
  MAX_LINEARS,
  'linears',
  z.record(z.string(), z.object({ before: z.number(), after: z.number() })),
)

/** The result of a calibration job. */
export const calibrateResult = z.object({
  kind: z.literal('calibrate'),
  /** SHA-256 of the mask file, which the node uploads with `PUT /internal/masks/:sha256` before it reports the result. */
  maskSha256: sha256Hex,
  maskBytes: count,
  /** The scope of the mask, which may differ from the requested one; absent from older nodes. */
  scope: z.enum(['row', 'matrix']).optional(),
  /** Fraction of weights pruned, over all masked linears. */
  sparsity: z.number(),
  /** Fraction of mask bits that differ from the parent's; null without a parent. */
  churn: z.number().nullable(),
  /**
   * The job's own datasets whose statistics the mask was selected from, with their tokens, and of the others one of each domain. Older
   * nodes name all.
   */
  tokens: boundedArray(z.object({ sha256: sha256Hex, tokens: count })),
  /** Fraction of mask bits that equal those of `compareWith`. */
  agreement: z.number().min(0).max(1).optional(),
  calibrateMs: z.number(),
  selectMs: z.number(),
  /** Methods with `+swaps`: squared output error of each linear, mean over tokens, before and after the exchange. */
  swaps: errorsByLinear.optional(),
  /** Methods with `+reconstruct`: the same error with the dense values, and with the solved ones. */
  reconstruction: errorsByLinear.optional(),
})

/** The result of a calibration job. */
export type CalibrateResult = z.output<typeof calibrateResult>

/** Figures of the texts that a set of weights generates greedily for fixed prompts. */
export const generationCheck = z.object({
  /** Whether every logit was finite. */
  finite: z.boolean(),
  tokens: count,
  /** Fraction of the generated bigrams that had occurred before in the same output. */
  repetition: z.number().min(0).max(1),
  /** Mean entropy of the next-token distribution, nats; null where it is not finite. */
  entropy: z.number().nullable(),
})

/** Figures of the texts that a set of weights generates for fixed prompts. */
export type GenerationCheck = z.output<typeof generationCheck>

/** The result of an evaluation job. */
export const evaluateResult = z.object({
  kind: z.literal('evaluate'),
  domains: boundedArray(
    z.object({
      domain: z.string().min(1).max(64),
      holdoutSha256: sha256Hex,
      tokens: count,
      /** Null where it is not finite, which JSON cannot represent; that mask is never promoted. */
      nllMean: z.number().nullable(),
      perplexity: z.number().nullable(),
      /** Mean loss of each window in nats a token, in order. */
      windowNll: boundedArray(z.number().nullable()).optional(),
      /** Scored tokens of each window. Windows of short texts are shorter than the job's `windowTokens`. */
      windowTokens: boundedArray(count).optional(),
    }),
  ),
  generation: generationCheck.optional(),
  /** The numerics of the weights that were measured, see `numericsOf`; absent from older nodes. */
  numerics: z.string().min(1).max(64).optional(),
})

/** The result of an evaluation job. */
export type EvaluateResult = z.output<typeof evaluateResult>

/** A node's report on a job. */
export const jobReport = z.object({
  id: z.string(),
  state: z.enum(['running', 'done', 'failed', 'cancelled']),
  /** 0 to 1. */
  progress: z.number().min(0).max(1),
  /** The current activity, for people: `calibrating legal, block 12 of 30`. */
  message: z.string().max(512),
  result: z.discriminatedUnion('kind', [calibrateResult, evaluateResult]).optional(),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
})

/** A node's report on a job. */
export type JobReport = z.output<typeof jobReport>
