import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ChatMessage } from '@copal/shared/wire/chat.ts'
import {
  createCodec,
  type TokenizerDescription,
} from '../../../../../gpu-node/src/model/tokenizer/hub-codec.ts'
import { chatPrompt } from '../../../../../gpu-node/src/serving/server/prompts/chat-prompt.ts'
import {
  newClientText,
  newMessages,
  wholePrompt,
} from '../../../../../gpu-node/src/serving/server/prompts/client-text.ts'
import { openTinyModel, type TinyModel } from '../../../../support/models/tiny-model.ts'

let tiny: TinyModel
beforeAll(async () => {
  tiny = await openTinyModel()
})
afterAll(() => tiny.remove())

const user = (content: string): ChatMessage => ({ role: 'user', content })
const assistant = (content: string): ChatMessage => ({ role: 'assistant', content })

/** Returns the text that the marked tokens spell, of the prompt of a conversation. */
async function markedText(messages: ChatMessage[], codec = tiny.model.codec) {
  const text = chatPrompt(codec, { messages }, [])
  const encode = async (alone: string) => codec.encodeDocument(alone)
  const found = await newClientText(codec, encode, { text, tokens: codec.encode(text) }, messages)
  const bytes = found.own.map((position) => codec.tokenBytes(found.tokens[position]!))
  return { marked: Buffer.concat(bytes).toString(), ...found, prompt: codec.encode(text) }
}

test('only the newest message of a conversation is new, with all before it as context', async () => {
  const messages = [
    { role: 'system' as const, content: 'be brief' },
    user('the first question of the client'),
    assistant('an answer to it'),
    user('the second question, which repeats: the first question of the client'),
  ]
  const { marked, tokens, prompt } = await markedText(messages)
  expect(marked).toBe('the second question, which repeats: the first question of the client')
  expect(tokens).toEqual(prompt)
})

test('a message that was sent before word for word is found where it stands now', async () => {
  const { marked, own, tokens } = await markedText([
    user('and again the same'),
    assistant('yes'),
    user('and again the same'),
  ])
  expect(marked).toBe('and again the same')
  expect(own[0]).toBeGreaterThan(tokens.length / 2)
})

test('messages that follow each other are new together, without what the template writes between them', async () => {
  const { marked } = await markedText([
    assistant('hello'),
    user('here is a text: äöü 🦜.'),
    user('what does it say?'),
  ])
  expect(marked).toBe('here is a text: äöü 🦜.what does it say?')
})

test('after the output of a tool nothing is new', async () => {
  const call = { id: 'call_1', type: 'function' as const, function: { name: 'clock', arguments: '{}' } }
  expect(
    newMessages([
      user('how late is it?'),
      { role: 'assistant', content: null, tool_calls: [call] },
      { role: 'tool', content: '12:30', tool_call_id: 'call_1' },
    ]),
  ).toEqual([])
  expect(newMessages([{ role: 'system', content: 'x' }])).toEqual([])
  expect(newMessages([user('a'), assistant('b'), user('c'), assistant('the beginning of an ans')])).toEqual([
    'c',
  ])
})

/** Returns the description from which the codec of the tiny model was created. */
const descriptionOf = ({ model }: TinyModel) => JSON.parse(model.tokenizer) as TokenizerDescription

test('a template that trims or a tokenizer that writes a space before the text hides nothing', async () => {
  const trimming = createCodec(
    {
      ...descriptionOf(tiny),
      chatTemplate:
        "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] | trim }}\n{% endfor %}",
    },
    'test',
  )
  expect((await markedText([user('  a text with space around it \n')], trimming)).marked.trim()).toBe(
    'a text with space around it',
  )
  const spaced = { ...tiny.model.codec, encode: (text: string) => tiny.model.codec.encode(` ${text}`) }
  expect(
    (await markedText([user('what the client says'), assistant('x'), user('and then')], spaced)).marked,
  ).toBe('and then')
})

test('a message that the template changes stands alone', async () => {
  const upper = createCodec(
    {
      ...descriptionOf(tiny),
      chatTemplate: "{% for message in messages %}{{ message['content'] | upper }}{% endfor %}",
    },
    'test',
  )
  const { marked, tokens } = await markedText([assistant('an answer'), user('in small letters')], upper)
  expect(marked).toBe('in small letters')
  expect(tokens).toEqual(upper.encodeDocument('in small letters'))
})

test('messages that stand alone are tokenised where they delay no stream, all others not again', async () => {
  const alone: string[] = []
  const codec = { ...tiny.model.codec, encodeDocument: (text: string) => (expect(text).toBe(''), []) }
  const textOf = async (written: string) => {
    const messages = [user('what the client says')]
    const encode = async (text: string) => [alone.push(text)]
    await newClientText(codec, encode, { text: written, tokens: codec.encode(written) }, messages)
  }
  await textOf('<user>what the client says</user>')
  expect(alone).toEqual([])
  await textOf('<user>WHAT THE CLIENT SAYS</user>')
  expect(alone).toEqual(['what the client says'])
})

test('all of a plain prompt is the client’s', async () => {
  expect(wholePrompt([5, 6, 7])).toEqual({ tokens: [5, 6, 7], own: [0, 1, 2] })
})
