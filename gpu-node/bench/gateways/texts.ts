/** The texts of requests and responses in the benchmark, of ordinary sizes and created once. */

/** Name of the model in requests and responses. */
export const MODEL = 'bench-model'
/** Beginning of a prompt to which a node responds with an error, whose code follows. */
export const FAULT = 'fault:'
/** Prompt tokens in the reported usage. */
export const PROMPT_TOKENS = 60
/** Tokens of a response; a stream has one chunk for each. */
export const TOKENS = 64

const WORDS = Array.from({ length: TOKENS }, (_, index) => ` token${index % 10}`)
const SENTENCE = 'Tell me in a few words what the gateway adds to a request that it passes on. '
const ABOUT = { id: 'chatcmpl-bench', created: 1_760_000_000, model: MODEL }
const USAGE = {
  prompt_tokens: PROMPT_TOKENS,
  completion_tokens: TOKENS,
  total_tokens: PROMPT_TOKENS + TOKENS,
}

/**
 * Returns the body of a request.
 *
 * @param characters length of the prompt
 */
export function requestBody(stream: boolean, characters = 3 * SENTENCE.length): string {
  const content = SENTENCE.repeat(Math.ceil(characters / SENTENCE.length)).slice(0, characters)
  const messages = [
    { role: 'system', content: 'You are a helpful assistant.' },
    { role: 'user', content },
  ]
  return JSON.stringify({ model: MODEL, messages, max_tokens: TOKENS, temperature: 0, stream })
}

/** A response that is not streamed. */
export const jsonResponse = Buffer.from(
  JSON.stringify({
    ...ABOUT,
    object: 'chat.completion',
    choices: [{ index: 0, message: { role: 'assistant', content: WORDS.join('') }, finish_reason: 'length' }],
    usage: USAGE,
  }),
)

/** The chunks of a stream, one event each; the last one also has the end marker. */
export const streamEvents: readonly Buffer[] = WORDS.map((content, index) => {
  const isLast = index === TOKENS - 1
  const delta = index === 0 ? { role: 'assistant', content } : { content }
  const choice = { index: 0, delta, finish_reason: isLast ? 'length' : null }
  const event = { ...ABOUT, object: 'chat.completion.chunk', choices: [choice] }
  return Buffer.from(`data: ${JSON.stringify(event)}\n\n${isLast ? 'data: [DONE]\n\n' : ''}`)
})
