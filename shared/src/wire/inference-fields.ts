import { z } from 'zod'
import { boundedArray, boundedRecord } from './bounded-collections.ts'
import { OTHER_DOMAINS } from './other-domains.ts'

/** Upper bounds of one request; the context length of the node limits it further. */
export const LIMITS = {
  bodyBytes: 1024 * 1024,
  messages: 1024,
  /** OpenAI has 4, and tasks of lm-evaluation-harness need more. */
  stopSequences: 16,
  stopBytes: 256,
  topLogprobs: 20,
  /** Choices of one request: `n` for each prompt. LangChain sends 20 prompts by default. */
  choices: 32,
  /** Inputs of one request for embeddings, as at OpenAI, because clients fill their requests up to that. */
  embeddings: 2048,
  biasedTokens: 300,
  metadataPairs: 16,
  maxTokens: 1_000_000,
} as const

const EXTENSION = 'Extension of the OpenAI API.'

/** Domain names: lower-case letters, digits and inner `-`, `_`, `.`; at most 64 characters. */
export const domainName = z
  .string()
  .max(64, 'expected a domain name of at most 64 characters')
  .regex(
    /^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$/,
    "expected a domain name of lower-case letters, digits and inner '-', '_' or '.', like 'legal' or 'support.eu'",
  )

/** The name under which traffic is counted: that of a domain, or {@link OTHER_DOMAINS}. */
export const countedDomain = z.union([domainName, z.literal(OTHER_DOMAINS)])

const stop = z.union([
  z.string().min(1).max(LIMITS.stopBytes),
  boundedArray(z.string().min(1).max(LIMITS.stopBytes)).max(LIMITS.stopSequences),
])

/** Creates the schema of a field of the OpenAI API that is not supported; null counts as leaving it out. */
export function unsupported(reason: string) {
  return z.null(`${reason}; leave it out`).optional().describe(`Not supported: ${reason}.`)
}

/** Values to add to logits, by token id. */
const logitBias = boundedRecord(
  LIMITS.biasedTokens,
  'tokens',
  z.record(
    z.string().regex(/^(0|[1-9]\d{0,6})$/),
    z.number('expected a number from -100 to 100').min(-100).max(100),
    {
      error: ({ code }) =>
        code === 'invalid_key' ? 'expected token ids of this model as keys, like "1734"' : undefined,
    },
  ),
)

/** Pairs that clients attach for their own use. */
export const metadata = boundedRecord(
  LIMITS.metadataPairs,
  'pairs',
  z.record(z.string().max(64), z.string().max(512)),
)

/** Creates the schema of a field that is accepted without effect. */
function ignored<T extends z.ZodType>(field: T) {
  return field.nullish().describe('Accepted without effect.')
}

/** A model, optionally with the weights to use. */
export const modelField = z
  .string()
  .min(1)
  .max(256)
  .describe('`model`, `model@mask-12` or `model@dense`; `GET /v1/models` lists the valid names.')

/**
 * Fields of the OpenAI APIs that do not affect the output: accepted, checked and ignored, because nothing is stored and
 * there is one service tier. `store` may be true, because OpenAI's examples send it.
 */
export const ignoredFields = {
  user: ignored(z.string().max(512)),
  safety_identifier: ignored(z.string().max(512)),
  prompt_cache_key: ignored(z.string().max(512)),
  metadata: ignored(metadata),
  store: z.boolean().nullish().describe('Accepted without effect: responses are never stored.'),
  service_tier: z
    .enum(['auto', 'default'], "there is one service tier; send 'auto' or 'default', or leave it out")
    .nullish(),
} as const

/**
 * The sampling fields that chat completions and completions share. `responses.ts` has its own, shorter list.
 *
 * `top_k`, `min_p` and `repetition_penalty` extend the OpenAI API, as vLLM and llama.cpp do. Unknown fields are ignored,
 * known fields are checked strictly.
 */
export const samplingFields = {
  model: modelField,
  stream: z.boolean().nullish(),
  stream_options: z
    .object({
      include_usage: z.boolean().nullish(),
      include_obfuscation: z.literal(false, 'obfuscation is not supported; send false').nullish(),
    })
    .nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  top_k: z.int().min(-1).max(1_000_000).nullish().describe(`${EXTENSION} -1 and 0 keep all tokens.`),
  min_p: z.number().min(0).max(1).nullish().describe(EXTENSION),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  // Smaller penalties leave no finite logit.
  repetition_penalty: z.number().min(0.01).max(10).nullish().describe(EXTENSION),
  seed: z.int().nullish(),
  stop: stop.nullish(),
  max_tokens: z.int().min(1).max(LIMITS.maxTokens).nullish(),
  logit_bias: logitBias.nullish().describe('Values to add to logits, by token id.'),
  n: z.int().min(1).max(LIMITS.choices).nullish().describe('Number of choices; the prompt is counted once.'),
} as const

/** Adds an issue for `stream_options` in a request without streaming, as OpenAI does. */
export function checkStreamOptions(
  request: { stream?: boolean | null | undefined; stream_options?: object | null | undefined },
  context: z.core.$RefinementCtx,
): void {
  if (request.stream_options == null || request.stream) return
  context.addIssue({
    code: 'custom',
    path: ['stream_options'],
    message: "requires 'stream': true",
  })
}

/** Token counts of one response. */
export const usage = z.object({
  prompt_tokens: z.int(),
  completion_tokens: z.int(),
  total_tokens: z.int(),
  prompt_tokens_details: z.object({
    cached_tokens: z
      .int()
      .describe(
        'Prompt tokens that were reused from earlier requests of the same tenant; 0 on the ONNX backend.',
      ),
  }),
})
/** Token counts of one response. */
export type Usage = z.output<typeof usage>

/** Token counts in a chunk of a stream. */
export const chunkUsage = usage
  .nullish()
  .describe(
    'With `stream_options.include_usage`: the usage in the last chunk, which has no choices, and null before.',
  )

/** Fields that every response and chunk begins with. */
export const responseFields = {
  id: z.string(),
  created: z.int().describe('Seconds since the epoch.'),
  model: z.string(),
  system_fingerprint: z
    .string()
    .describe('`copal-<model>-m<version>`: the mask version of the whole output; 0 is dense.'),
} as const
