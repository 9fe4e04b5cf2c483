import { expect, test } from 'vitest'
import type { ChatMessage } from '@copal/shared/wire/chat.ts'
import type { Tool } from '@copal/shared/wire/tools.ts'
import { createChatTemplate } from '../../../../../gpu-node/src/model/tokenizer/chat-template.ts'
import type { TextCodec } from '../../../../../gpu-node/src/model/tokenizer/text-codec.ts'
import { chatPrompt } from '../../../../../gpu-node/src/serving/server/prompts/chat-prompt.ts'
import { TINY_CHAT_TEMPLATE } from '../../../../support/models/tiny-llama.ts'

/** A template of models trained with tools (Hermes, Qwen). */
const HERMES = `{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}Call with <tool_call>.<|im_end|>
{% endif %}{%- for message in messages %}{%- if message.role == 'tool' %}<|im_start|>user
<tool_response>{{ message.content }}</tool_response><|im_end|>
{%- else %}<|im_start|>{{ message.role }}
{{ message.content }}{% for call in message.tool_calls or [] %}<tool_call>{{ {'name': call.function.name, 'arguments': call.function.arguments} | tojson }}</tool_call>{% endfor %}<|im_end|>
{% endif %}{%- endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`

const TOKENS = { bosToken: '', eosToken: '<|im_end|>' }
const codecOf = (template: string) => {
  const compiled = createChatTemplate(template, TOKENS, 'test')
  const renderChat: TextCodec['renderChat'] = (messages, tools) => compiled.render(messages, tools)
  return { rendersTools: compiled.rendersTools, renderChat }
}
const CLOCK: Tool = { type: 'function', function: { name: 'clock', description: 'Tells the time' } }
const MESSAGES: ChatMessage[] = [
  { role: 'developer', content: 'Be brief.' },
  {
    role: 'user',
    content: [
      { type: 'text', text: 'How late ' },
      { type: 'text', text: 'is it?' },
    ],
  },
  {
    role: 'assistant',
    content: null,
    tool_calls: [
      { id: 'call_1', type: 'function', function: { name: 'clock', arguments: '{"zone": "UTC"}' } },
    ],
  },
  { role: 'tool', tool_call_id: 'call_1', content: 'noon' },
]

test('a template that supports tools is detected and receives them', () => {
  const codec = codecOf(HERMES)
  expect(codec.rendersTools).toBe(true)
  const prompt = chatPrompt(codec, { messages: MESSAGES }, [CLOCK])
  expect(prompt).toContain('"name": "clock", "description": "Tells the time"')
  expect(prompt).toContain('<tool_call>{"name": "clock", "arguments": {"zone": "UTC"}}</tool_call>')
  expect(prompt).toContain('<tool_response>noon</tool_response>')
  expect(prompt).toContain('<|im_start|>system\nBe brief.<|im_end|>')
  expect(chatPrompt(codec, { messages: MESSAGES.slice(0, 2) }, [])).not.toContain('<tool_call>')
})

test('for other templates the system message describes the tools, and calls and results are written as text', () => {
  const codec = codecOf(TINY_CHAT_TEMPLATE)
  expect(codec.rendersTools).toBe(false)
  const prompt = chatPrompt(codec, { messages: MESSAGES }, [CLOCK])
  const [system, user, assistant, result, end] = prompt.split('<|im_end|>\n')
  expect(system).toMatch(
    /^<\|im_start\|>system\nBe brief\.\n\nYou may call functions[^]*"name":"clock"[^]*<\/tool_call>$/,
  )
  expect(user).toBe('<|im_start|>user\nHow late is it?')
  expect(assistant).toBe(
    '<|im_start|>assistant\n<tool_call>\n{"name": "clock", "arguments": {"zone": "UTC"}}\n</tool_call>',
  )
  expect(result).toBe('<|im_start|>user\n<tool_response>\nnoon\n</tool_response>')
  expect(end).toBe('<|im_start|>assistant\n')
})

test('the system message describes a format with its name, description and schema', () => {
  const codec = codecOf(TINY_CHAT_TEMPLATE)
  const schema = { type: 'object', properties: { a: { type: 'boolean' } } }
  const messages: ChatMessage[] = [{ role: 'user', content: 'Hi' }]
  const prompt = chatPrompt(
    codec,
    {
      messages,
      response_format: {
        type: 'json_schema',
        json_schema: { name: 'flag', description: 'Yes or no', schema },
      },
    },
    [],
  )
  expect(prompt).toMatch(/^<\|im_start\|>system\n[^]*flag: Yes or no[^]*<\|im_end\|>\n<\|im_start\|>user\nHi/)
  expect(prompt).toContain(JSON.stringify(schema))
  expect(chatPrompt(codec, { messages, response_format: { type: 'text' } }, [])).toBe(
    codec.renderChat(messages as []),
  )
})

test('a template that fails on tools counts as one without tool support', () => {
  const picky = "{% if tools %}{{ raise_exception('no tools') }}{% endif %}{{ messages[0].content }}"
  expect(codecOf(picky).rendersTools).toBe(false)
  expect(
    codecOf('{% for m in messages %}{{ m.content }}{% endfor %}<tool_call>{{ tools | tojson }}').rendersTools,
  ).toBe(false)
})

test('a call whose arguments are an empty text has none, and an empty list of calls is none', () => {
  const call = { id: 'call_1', type: 'function' as const, function: { name: 'clock', arguments: '' } }
  const messages = [
    { role: 'user' as const, content: 'hi' },
    { role: 'assistant' as const, content: 'so', tool_calls: [] },
    { role: 'user' as const, content: 'the time?' },
    { role: 'assistant' as const, content: null, tool_calls: [call] },
  ]
  for (const template of [HERMES, TINY_CHAT_TEMPLATE])
    expect(chatPrompt(codecOf(template), { messages }, [])).toContain('{"name": "clock", "arguments": {}}')
  const turns = chatPrompt(
    { rendersTools: true, renderChat: (each: unknown) => JSON.stringify(each) },
    { messages },
    [],
  )
  expect(JSON.parse(turns)).toHaveProperty(['1'], { role: 'assistant', content: 'so' })
})
