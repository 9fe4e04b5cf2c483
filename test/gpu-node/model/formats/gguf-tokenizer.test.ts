import { expect, test } from 'vitest'
import { createCodec } from '../../../../gpu-node/src/model/tokenizer/hub-codec.ts'
import { readGgufTokenizer } from '../../../../gpu-node/src/model/formats/gguf-tokenizer.ts'
import { BYTE_CHARACTERS } from '../../../../gpu-node/src/model/tokenizer/byte-level.ts'

/** Returns a codec with a byte alphabet, some merges, and the named pre-tokenizer. */
function codecOf(pre: string | undefined, merges: string[], changes: Record<string, string | number[]> = {}) {
  const tokens = ['<|end|>', '[tool]', ...BYTE_CHARACTERS, ...merges.map((merge) => merge.replace(' ', ''))]
  const metadata = new Map(
    Object.entries({
      'tokenizer.ggml.model': 'gpt2',
      ...(pre === undefined ? {} : { 'tokenizer.ggml.pre': pre }),
      'tokenizer.ggml.tokens': tokens,
      'tokenizer.ggml.token_type': tokens.map((_, id) => [3, 4][id] ?? 1),
      'tokenizer.ggml.merges': merges,
      ...changes,
    }),
  )
  const codec = createCodec(readGgufTokenizer({ path: 'm.gguf', metadata, tensors: new Map() }), 'm.gguf')
  return (text: string) =>
    codec.encode(text).map((id) => Buffer.from(codec.tokenBytes(id)).toString('latin1'))
}

const DIGITS = ['1 2', '12 3', '123 4']

test('gpt-2 keeps digits together, smollm and qwen2 split them one by one, LLaMA 3 in groups of three', () => {
  expect(codecOf('gpt-2', DIGITS)('1234')).toEqual(['1234'])
  expect(codecOf('smollm', DIGITS)('1234')).toEqual(['1', '2', '3', '4'])
  expect(codecOf('qwen2', DIGITS)('1234')).toEqual(['1', '2', '3', '4'])
  for (const name of ['llama-bpe', 'llama3', 'llama-v3'])
    expect(codecOf(name, DIGITS)('1234')).toEqual(['123', '4'])
})

test('only gpt-2 and smollm split contractions by case, and separate line ends from punctuation', () => {
  const merges = ["' S", '! Ċ']
  expect(codecOf('gpt-2', merges)("A'S!\n")).toEqual(['A', "'", 'S', '!', '\n'])
  expect(codecOf('llama-bpe', merges)("A'S!\n")).toEqual(['A', "'S", '!\n'])
})

test('LLaMA 3 uses a whole word that is a token without merging', () => {
  const merges = ['b c', 'a bc', 'a b']
  expect(codecOf('llama-bpe', merges)('abc')).toEqual(['abc'])
  expect(codecOf('gpt-2', ['a b', 'b c', 'a bc'])('abc')).toEqual(['ab', 'c'])
  expect(codecOf('llama-bpe', ['a b', 'b c', 'a bc'])('abc')).toEqual(['abc'])
})

test('control and user-defined tokens are recognised as written', () => {
  expect(codecOf('gpt-2', [])('a[tool]<|end|>')).toEqual(['a', '[tool]', '<|end|>'])
})

test.each(['falcon', 'tekken', undefined, 'toString'])(
  'pre-tokenizer %s is an error that names it',
  (name) => {
    expect(() => codecOf(name, [])).toThrow(
      expect.objectContaining({
        code: 'unsupported_model',
        message: expect.stringContaining(`pre-tokenizer ${JSON.stringify(name ?? null)}`),
      }),
    )
  },
)

test('another tokenizer model is an error that names it', () => {
  expect(() => codecOf('gpt-2', [], { 'tokenizer.ggml.model': 'bert' })).toThrow(
    expect.objectContaining({ code: 'unsupported_model', message: expect.stringContaining('"bert"') }),
  )
})

test('a SentencePiece vocabulary merges by score', () => {
  const tokens = ['<unk>', '<s>', '</s>', '<0x0A>', '▁', 'a', 'b', 'ab', '▁a', '▁ab']
  const metadata = new Map<string, string | string[] | number[] | number | boolean>([
    ['tokenizer.ggml.model', 'llama'],
    ['tokenizer.ggml.tokens', tokens],
    ['tokenizer.ggml.token_type', [2, 3, 3, 6, 1, 1, 1, 1, 1, 1]],
    ['tokenizer.ggml.scores', [0, 0, 0, 0, -9, -9, -9, -1, -2, -3]],
    ['tokenizer.ggml.add_space_prefix', true],
    ['tokenizer.ggml.bos_token_id', 1],
  ])
  const header = { path: 'm.gguf', metadata, tensors: new Map() }
  const codec = createCodec(readGgufTokenizer(header), 'm.gguf')
  expect(codec.encode('ab ab\n')).toEqual([9, 9, 3])
  // ab (−1) goes before ▁a (−2), so ▁ stays for ▁ab.
  expect(codec.encode('aab')).toEqual([8, 7])
  expect(Buffer.concat([9, 3].map((id) => codec.tokenBytes(id))).toString()).toBe(' ab\n')
  // Models of this kind add a BOS token unless their metadata says otherwise.
  expect(codec.encodeDocument('ab')).toEqual([1, 9])
  metadata.set('tokenizer.ggml.add_bos_token', false)
  expect(createCodec(readGgufTokenizer(header), 'm.gguf').encodeDocument('ab')).toEqual([9])
})
