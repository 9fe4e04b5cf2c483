import { describe, expect, test } from 'vitest'
import {
  createCodec,
  type TokenizerDescription,
  type TokenizerJson,
} from '../../../../gpu-node/src/model/tokenizer/hub-codec.ts'
import { TINY_CHAT_TEMPLATE, tokenizerJson } from '../../../support/models/tiny-llama.ts'
import { sentencePieceCodec } from '../../../support/text/sentencepiece-codec.ts'

const tiny = (changes: Partial<TokenizerDescription> = {}) =>
  createCodec(
    {
      json: tokenizerJson() as TokenizerJson,
      chatTemplate: TINY_CHAT_TEMPLATE,
      bosToken: '<|im_start|>',
      eosToken: '<|im_end|>',
      ...changes,
    },
    'tiny',
  )

const text = (codec: ReturnType<typeof tiny>, ids: number[]) =>
  Buffer.concat(ids.map((id) => codec.tokenBytes(id))).toString('utf8')

test('any text is decoded to the same bytes', () => {
  const codec = tiny()
  for (const sample of [
    '',
    'The rain in Spain',
    ' two  spaces\t\n\n',
    'naïve café 你好 🙂',
    '\u0000\u007f\u00a0\ufeff',
  ]) {
    expect(text(codec, codec.encode(sample))).toBe(sample)
  }
})

test('a character of several tokens is decoded from their joined bytes', () => {
  const codec = tiny()
  const ids = codec.encode('é')
  expect(ids.map((id) => [...codec.tokenBytes(id)])).toEqual([[0xc3], [0xa9]])
})

test('special tokens in text are recognised, and no BOS token is added', () => {
  const codec = tiny()
  const ids = codec.encode('<|im_start|>the<|im_end|>')
  expect(ids.at(0)).toBe(1)
  expect(ids.at(-1)).toBe(2)
  expect(ids.map((id) => codec.isSpecial(id))).toEqual([true, ...ids.slice(1, -1).map(() => false), true])
  expect(codec.isSpecial(codec.encode('the')[0]!)).toBe(false)
})

test('an id outside the vocabulary has no bytes', () => {
  const codec = tiny()
  for (const id of [100_000, 100_001, -1, Object.keys((tokenizerJson() as TokenizerJson).model.vocab).length])
    expect(codec.tokenBytes(id)).toEqual(new Uint8Array(0))
})

test.each([-1, 0.5, 4e9, '7'])('a token with the id %o is an error that names it', (id) => {
  const json = tokenizerJson() as TokenizerJson
  const vocab = { ...json.model.vocab, wrong: id as number }
  expect(() => tiny({ json: { ...json, model: { ...json.model, vocab } } })).toThrow(
    expect.objectContaining({ code: 'unsupported_model', message: expect.stringContaining(`id ${id}.`) }),
  )
})

test('a codec leaves its description as it was, with merges as text or as pairs', () => {
  const json = tokenizerJson() as TokenizerJson
  const before = JSON.stringify(json)
  const pairs = (json.model['merges'] as string[]).map((merge) => merge.split(' '))
  expect(tiny({ json: { ...json, model: { ...json.model, merges: pairs } } }).encode('the rain')).toEqual(
    tiny({ json }).encode('the rain'),
  )
  expect(JSON.stringify(json)).toBe(before)
  expect(pairs.length).toBeGreaterThan(0)
})

test('changing returned bytes does not change the codec', () => {
  const codec = tiny()
  const [id] = codec.encode('A')
  codec.tokenBytes(id!)[0] = 0
  expect([...codec.tokenBytes(id!)]).toEqual([0x41])
})

test('a conversation is rendered up to the assistant’s response', () => {
  expect(tiny().renderChat([{ role: 'user', content: 'Hi' }])).toBe(
    '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n',
  )
})

test('a template may use the model’s own tokens', () => {
  const codec = tiny({ chatTemplate: '{{ bos_token }}{{ messages[0].content }}{{ eos_token }}' })
  expect(codec.renderChat([{ role: 'user', content: 'Hi' }])).toBe('<|im_start|>Hi<|im_end|>')
})

test('a conversation that the template rejects is an error with the template’s message', () => {
  const codec = tiny({ chatTemplate: "{{ raise_exception('roles must alternate') }}" })
  expect(() => codec.renderChat([])).toThrow(
    expect.objectContaining({
      code: 'invalid_request',
      message: expect.stringContaining('roles must alternate'),
    }),
  )
})

test('chatting with a model without a template is an error', () => {
  expect(() => tiny({ chatTemplate: null }).renderChat([])).toThrow(
    expect.objectContaining({
      code: 'invalid_request',
      message: expect.stringContaining('no chat template'),
    }),
  )
})

test('a template that is not Jinja is an error when the model is opened', () => {
  expect(() => tiny({ chatTemplate: '{% for %}' })).toThrow(
    expect.objectContaining({ code: 'unsupported_model' }),
  )
})

test('a tokenizer that is not BPE is an error that names it', () => {
  const json = tokenizerJson() as TokenizerJson
  expect(() => tiny({ json: { ...json, model: { ...json.model, type: 'Unigram' } } })).toThrow(
    expect.objectContaining({ code: 'unsupported_model', message: expect.stringContaining('Unigram') }),
  )
})

test('a tokenizer with an unknown part is an error', () => {
  const json = { ...(tokenizerJson() as TokenizerJson), pre_tokenizer: { type: 'Telepathy' } }
  expect(() => tiny({ json })).toThrow(
    expect.objectContaining({ code: 'unsupported_model', message: expect.stringContaining('Telepathy') }),
  )
})

test('SentencePiece tokens: `▁` is a space, byte tokens are bytes, and other text is unchanged', () => {
  const codec = sentencePieceCodec()
  const ids = codec.encode('hi hi\né')
  expect(ids).toEqual([263, 263, 3 + 0x0a, 3 + 0xc3, 3 + 0xa9])
  expect(text(codec, ids)).toBe(' hi hi\né')
  expect(codec.isSpecial(2)).toBe(true)
})

describe('a text at the start of a context', () => {
  const bosFirst = {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '<|im_start|>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [],
    special_tokens: { '<|im_start|>': { id: '<|im_start|>', ids: [1], tokens: ['<|im_start|>'] } },
  }

  test('begins with the BOS token if the tokenizer adds one', () => {
    const codec = tiny({ json: { ...(tokenizerJson() as TokenizerJson), post_processor: bosFirst } })
    const [bos] = codec.encode('<|im_start|>')
    expect(codec.encodeDocument('Hi')).toEqual([bos, ...codec.encode('Hi')])
    expect(codec.encodeDocument('')).toEqual([bos])
  })

  test('gets no second BOS token if the text begins with one', () => {
    const codec = tiny({ json: { ...(tokenizerJson() as TokenizerJson), post_processor: bosFirst } })
    expect(codec.encodeDocument('<|im_start|>Hi')).toEqual(codec.encode('<|im_start|>Hi'))
  })

  test('is encoded without a BOS token if the tokenizer adds none', () => {
    expect(tiny().encodeDocument('Hi')).toEqual(tiny().encode('Hi'))
  })
})
