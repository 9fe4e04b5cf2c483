import { expect, test } from 'vitest'
import { LongObject } from '../../../../../gpu-node/src/serving/server/formats/as-written.ts'
import { completionFormat } from '../../../../../gpu-node/src/serving/server/formats/output-format.ts'
import { jsonInTurns } from '../../../../../gpu-node/src/serving/server/generation/json-in-turns.ts'

const HEAD = { id: 'cmpl-1', created: 1, model: 'tiny', system_fingerprint: 'fp' }
const USAGE = {
  prompt_tokens: 3,
  completion_tokens: 1,
  total_tokens: 4,
  prompt_tokens_details: { cached_tokens: 0 },
}
/** A BOS before the text, and a character in two tokens. */
const BYTES = [Buffer.from('<s>'), Buffer.from([0xc3]), Buffer.from([0xa9]), Buffer.from('z')]
const SCORES = {
  logprobs: Float32Array.of(-1, -2),
  topTokens: Int32Array.of(3, 0),
  topLogprobs: Float32Array.of(-0.5, -0.25),
}

/** Returns a format whose reads of tokens are counted. */
function countingFormat(withUsage = false) {
  const counted = { reads: 0 }
  const tokenBytes = (token: number) => {
    counted.reads += 1
    return BYTES[token]!
  }
  const echo = () => ({ text: 'é', tokens: [0, 1, 2] })
  return { counted, format: completionFormat(HEAD, { logprobs: true, tokenBytes, withUsage, echo }) }
}

const PROMPT = {
  tokens: ['<s>', 'bytes:\\xc3', 'bytes:\\xa9'],
  token_logprobs: [null, -1, -2],
  top_logprobs: [null, { z: -0.5, 'bytes:\\xc3': -1 }, { '<s>': -0.25, 'bytes:\\xa9': -2 }],
  text_offset: [0, 0, 1],
}

test('repeated prompts are described when the response is written, and not before', async () => {
  const { counted, format } = countingFormat()
  const choice = {
    text: 'z',
    tokens: [{ token: 3, logprob: -3, top: [] }],
    reason: 'stop' as const,
    promptScores: SCORES,
  }
  const body = format.body([choice, { ...choice, text: '', tokens: [] }], USAGE)
  expect(counted.reads).toBe(0)
  const { choices } = JSON.parse(await jsonInTurns(body)) as { choices: object[] }
  expect(choices).toEqual([
    {
      index: 0,
      text: 'éz',
      logprobs: {
        tokens: [...PROMPT.tokens, 'z'],
        token_logprobs: [...PROMPT.token_logprobs, -3],
        top_logprobs: [...PROMPT.top_logprobs, { z: -3 }],
        text_offset: [...PROMPT.text_offset, 1],
      },
      finish_reason: 'stop',
    },
    { index: 1, text: 'é', logprobs: PROMPT, finish_reason: 'stop' },
  ])
})

test('a stream repeats a prompt in one long object, and goes on at the offset after it', () => {
  const { format } = countingFormat()
  const [repeated] = format.echo!(0, SCORES) as [LongObject]
  expect(repeated).toBeInstanceOf(LongObject)
  const { choices } = JSON.parse(JSON.stringify(repeated.value)) as { choices: object[] }
  expect(choices).toEqual([{ index: 0, text: 'é', logprobs: PROMPT, finish_reason: null }])
  const [next] = format.delta(0, 'z', [{ token: 3, logprob: -3, top: [] }])
  expect(JSON.parse(JSON.stringify(next))).toMatchObject({ choices: [{ logprobs: { text_offset: [1] } }] })
})
