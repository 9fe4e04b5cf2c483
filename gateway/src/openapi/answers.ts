/** What the routes answer, as the OpenAPI document tells it. */
import { z } from 'zod'
import { ERROR_CASES } from '@copal/shared/errors.ts'
import { toolCall } from '@copal/shared/wire/tools.ts'

const errorCode = z
  .enum(ERROR_CASES.map(({ code }) => code))
  .describe(ERROR_CASES.map(({ code, status, remedy }) => `- \`${code}\` (${status}): ${remedy}`).join('\n'))

/** Every error. */
export const errorAnswer = z.object({
  error: z.object({
    message: z.string().describe('What was wrong, what was expected, what to do.'),
    type: z.enum([...new Set(ERROR_CASES.map(({ type }) => type))]),
    param: z.string().nullable().describe('The field that was wrong.'),
    code: errorCode,
  }),
})

const usage = z.object({
  prompt_tokens: z.int(),
  completion_tokens: z.int(),
  total_tokens: z.int(),
  prompt_tokens_details: z.object({
    cached_tokens: z
      .int()
      .describe(
        'Of the prompt, what earlier requests of the same tenant had computed; 0 on the ONNX backend.',
      ),
  }),
})

const tokenLogprob = z.object({
  token: z.string(),
  logprob: z.number(),
  bytes: z.array(z.int().min(0).max(255)),
})
const chatLogprobs = z
  .object({
    content: z.array(tokenLogprob.extend({ top_logprobs: z.array(tokenLogprob) })),
    refusal: z.null(),
  })
  .nullable()

const answerHead = {
  id: z.string(),
  created: z.int().describe('Seconds since the epoch.'),
  model: z.string(),
  system_fingerprint: z
    .string()
    .describe('`copal-<model>-m<version>`: the weights that made all of the answer; 0 is dense.'),
}

/** Answer of `POST /v1/chat/completions`. */
export const chatAnswer = z.object({
  ...answerHead,
  object: z.literal('chat.completion'),
  service_tier: z.literal('default').optional(),
  choices: z.array(
    z.object({
      index: z.int(),
      message: z.looseObject({
        role: z.literal('assistant'),
        content: z.string().nullable(),
        refusal: z.null(),
        tool_calls: z.array(toolCall).optional(),
      }),
      logprobs: chatLogprobs,
      finish_reason: z.enum(['stop', 'length', 'tool_calls']),
    }),
  ),
  usage,
})

const completionLogprobs = z.object({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number()),
  top_logprobs: z.array(z.record(z.string(), z.number())),
  text_offset: z.array(z.int()),
})

/** Answer of `POST /v1/completions`. */
export const completionAnswer = z.object({
  ...answerHead,
  object: z.literal('text_completion'),
  choices: z.array(
    z.object({
      index: z.int(),
      text: z.string(),
      logprobs: completionLogprobs.nullable(),
      finish_reason: z.enum(['stop', 'length']).nullable(),
    }),
  ),
  usage,
})

/** One entry of `GET /v1/models`. */
export const modelAnswer = z.object({
  id: z.string().describe('`model`, `model@mask-12` or `model@dense`: what requests can name.'),
  object: z.literal('model'),
  created: z.int(),
  owned_by: z.literal('copal'),
  copal: z.object({
    mask_version: z.int().describe('0 is dense.'),
    sparsity: z.number(),
    method: z.string().nullable(),
    pattern: z.string().nullable(),
    domains: z.array(z.string()),
    context_length: z.int(),
    nodes: z.int().describe('That can answer with these weights now.'),
  }),
})

/** Answer of `GET /v1/models`. */
export const modelListAnswer = z.object({
  object: z.literal('list'),
  data: z.array(modelAnswer),
})

/** Answer of `GET /health`. */
export const healthAnswer = z.object({ status: z.literal('ok'), nodes_alive: z.int() })
