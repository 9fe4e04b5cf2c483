import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ChatMessage } from '@copal/shared/wire/chat.ts'
import { createCodec } from '../../../../../gpu-node/src/model/tokenizer/hub-codec.ts'
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
function markedText(messages: ChatMessage[], codec = tiny.model.codec) {
  const text = chatPrompt(codec, { messages }, [])
  const found = newClientText(codec, { text, tokens: codec.encode(text) }, messages)
  const bytes = found.own.map((position) => codec.tokenBytes(found.tokens[position]!))
  return { marked: Buffer.concat(bytes).toString(), ...found, prompt: codec.encode(text) }
}

test('only the newest message of a conversation is new, with all before it as context', () => {
  const messages = [
    { role: 'system' as const, content: 'be brief' },
    user('the first question of the client'),
    assistant('an answer to it'),
    user('the second question, which repeats: the first question of the client'),
  ]
  const { marked, tokens, prompt } = markedText(messages)
  expect(marked).toBe('the second question, which repeats: the first question of the client')
  expect(tokens).toEqual(prompt)
})

test('a message that was sent before word for word is found where it stands now', () => {
  const { marked, own, tokens } = markedText([
    user('and again the same'),
    assistant('yes'),
    user('and again the same'),
  ])
  expect(marked).toBe('and again the same')
  expect(own[0]).toBeGreaterThan(tokens.length / 2)
})

test('messages that follow each other are new together, without what the template writes between them', () => {
  const { marked } = markedText([
    assistant('hello'),
    user('here is a text: äöü 🦜.'),
    user('what does it say?'),
  ])
  expect(marked).toBe('here is a text: äöü 🦜.what does it say?')
})

test('after the output of a tool nothing is new', () => {
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

test('a template that trims or a tokenizer that writes a space before the text hides nothing', () => {
  const trimming = createCodec(
    {
      ...tiny.model.tokenizer,
      chatTemplate:
        "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] | trim }}\n{% endfor %}",
    },
    'test',
  )
  expect(markedText([user('  a text with space around it \n')], trimming).marked.trim()).toBe(
    'a text with space around it',
  )
  const spaced = { ...tiny.model.codec, encode: (text: string) => tiny.model.codec.encode(` ${text}`) }
  expect(markedText([user('what the client says'), assistant('x'), user('and then')], spaced).marked).toBe(
    'and then',
  )
})

test('a message that the template changes stands alone', () => {
  const upper = createCodec(
    {
      ...tiny.model.tokenizer,
      chatTemplate: "{% for message in messages %}{{ message['content'] | upper }}{% endfor %}",
    },
    'test',
  )
  const { marked, tokens } = markedText([assistant('an answer'), user('in small letters')], upper)
  expect(marked).toBe('in small letters')
  expect(tokens).toEqual(upper.encodeDocument('in small letters'))
})

test('all of a plain prompt is the client’s', () => {
  expect(wholePrompt([5, 6, 7])).toEqual({ tokens: [5, 6, 7], own: [0, 1, 2] })
})
