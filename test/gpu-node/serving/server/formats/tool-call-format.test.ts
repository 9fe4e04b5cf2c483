import { expect, test } from 'vitest'
import type { ChatCompletion, ChatCompletionChunk } from '@copal/shared/wire/chat.ts'
import { createGeneratedText } from '../../../../../gpu-node/src/serving/engine/generated-text.ts'
import { chatFormat } from '../../../../../gpu-node/src/serving/server/formats/output-format.ts'
import { toolFormat } from '../../../../../gpu-node/src/serving/server/formats/tool-call-format.ts'
import { createRandom } from '../../../../support/harness/random.ts'

const HEAD = { id: 'chatcmpl-1', created: 1, model: 'tiny', system_fingerprint: 'copal-tiny-m0' }
const USAGE = {
  prompt_tokens: 1,
  completion_tokens: 1,
  total_tokens: 2,
  prompt_tokens_details: { cached_tokens: 0 },
}
const CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'

/** Formats an output of these tokens, whole and as a stream, and returns the tokens whose log-probabilities each has. */
function tokensOf(pieces: readonly Uint8Array[]): { whole: string[]; streamed: string[] } {
  const tokenBytes = (token: number) => pieces[token] ?? new Uint8Array()
  const newFormat = () =>
    toolFormat(chatFormat(HEAD, { logprobs: true, tokenBytes, withUsage: false }), tokenBytes)
  const generated = createGeneratedText({
    codec: { tokenBytes, isSpecial: () => false },
    endTokens: new Set([pieces.length]),
    stops: [],
    maxNewTokens: pieces.length + 1,
    logprobs: true,
  })
  const deltas = Array.from({ length: pieces.length + 1 }, (_, token) =>
    generated.take({ token, logprob: -1, top: [] }),
  )
  const text = deltas.map((delta) => delta.text).join('')
  const tokens = deltas.flatMap((delta) => delta.tokens)
  const body = JSON.parse(
    JSON.stringify(newFormat().body([{ text, tokens, reason: 'stop' }], USAGE)),
  ) as ChatCompletion
  const format = newFormat()
  const chunks = deltas.flatMap((delta) => format.delta(0, delta.text, delta.tokens))
  const streamed = JSON.parse(
    JSON.stringify([...chunks, ...format.endChoice(0, 'stop')]),
  ) as ChatCompletionChunk[]
  const listed = (choices: ChatCompletion['choices'] | ChatCompletionChunk['choices']) =>
    choices.flatMap(({ logprobs }) => logprobs?.content ?? []).map(({ token }) => token)
  return { whole: listed(body.choices), streamed: streamed.flatMap(({ choices }) => listed(choices)) }
}

test.for([
  { pieces: ['hi', '<tool_', `call>${CALL.slice(11)}`], listed: ['hi'] },
  { pieces: ['h', 'i<', CALL.slice(1)], listed: ['h', 'i<'] },
  { pieces: ['<tool', '<to', CALL.slice(3)], listed: ['<tool'] },
  { pieces: ['hi', ' \n', CALL], listed: ['hi'] },
  { pieces: [`hi${CALL}`], listed: [`hi${CALL}`] },
  { pieces: [CALL], listed: [] },
])('log-probabilities are listed of the tokens that begin in the content: $pieces', ({ pieces, listed }) => {
  const found = tokensOf(pieces.map((piece) => Buffer.from(piece)))
  expect(found).toEqual({ whole: listed, streamed: listed })
})

test('a stream lists the log-probabilities of the same tokens, however the text is divided into tokens', () => {
  for (let seed = 0; seed < 200; seed++) {
    const random = createRandom(seed)
    const bytes = Buffer.from(`a <b> <tool_cal é😀${seed % 3 === 0 ? '' : ` \n${CALL}\n${CALL}`}`)
    const pieces: Uint8Array[] = []
    for (let at = 0; at < bytes.length; at += pieces.at(-1)!.length)
      pieces.push(bytes.subarray(at, at + 1 + Math.floor(random() * 6)))
    const { whole, streamed } = tokensOf(pieces)
    expect(streamed, `seed ${seed}`).toEqual(whole)
    expect(whole.length).toBeGreaterThan(0)
  }
})
