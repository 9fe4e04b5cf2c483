import { MODEL } from './service.ts'

const WORDS =
  'A sparse mask keeps the weights that matter most for the text it has seen . When the traffic changes , so does the mask : it is selected again , checked on held-out text , and tried on a tenth of the conversations before it serves all .'.split(
    ' ',
  )

/** Events of an answer, one a token. */
export function* answer(model: string): Generator<string> {
  const isDense = model.endsWith('@dense')
  const version = /mask-(\d+)$/.exec(model)?.[1] ?? '0'
  const words = isDense ? [...WORDS.slice(0, 21), ...WORDS.slice(25)] : WORDS
  const head = {
    id: 'chat-1',
    object: 'chat.completion.chunk',
    created: 1,
    model,
    system_fingerprint: `copal-${MODEL}-m${version}`,
  }
  for (const [index, word] of words.entries()) {
    const token = `${index === 0 ? '' : ' '}${word}`
    const logprob = -5.2 * Math.abs(Math.sin(index * 2.3 + (isDense ? 0.3 : 0))) ** 3
    const content = [{ token, logprob, bytes: [], top_logprobs: [] }]
    yield JSON.stringify({
      ...head,
      choices: [
        { index: 0, delta: { content: token }, logprobs: { content, refusal: null }, finish_reason: null },
      ],
    })
  }
  yield JSON.stringify({ ...head, choices: [{ index: 0, delta: {}, logprobs: null, finish_reason: 'stop' }] })
  yield JSON.stringify({
    ...head,
    choices: [],
    usage: { prompt_tokens: 12, completion_tokens: words.length, total_tokens: 12 + words.length },
  })
  yield '[DONE]'
}
