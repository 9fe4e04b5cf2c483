import { expect, test } from 'vitest'
import { createTextStream, wholeCharacters } from '../../../../gpu-node/src/serving/engine/text-stream.ts'
import { createRandom } from '../../../support/harness/random.ts'

const bytes = (text: string) => new TextEncoder().encode(text)

/** Pushes pieces until a stop; returns the deltas and the complete text. */
function run(stops: string[], pieces: Uint8Array[]) {
  const stream = createTextStream(stops)
  const deltas = []
  for (const piece of pieces) {
    deltas.push(stream.push(piece))
    if (stream.stopped) break
  }
  deltas.push(stream.end())
  return {
    deltas,
    text: deltas.map((delta) => delta.text).join(''),
    tokens: deltas.reduce((sum, delta) => sum + delta.tokens, 0),
    stopped: stream.stopped,
  }
}

test('a character split over four tokens appears once, complete, and releases its tokens with it', () => {
  const [a, b, c, d] = bytes('🙂')
  const { deltas, text } = run(
    [],
    [Uint8Array.of(a!), Uint8Array.of(b!), Uint8Array.of(c!), Uint8Array.of(d!)],
  )
  expect(deltas.map((delta) => delta.text)).toEqual(['', '', '', '🙂', ''])
  expect(deltas.map((delta) => delta.tokens)).toEqual([0, 0, 0, 4, 0])
  expect(text).toBe('🙂')
})

test('a token that ends one character and begins the next is released with the next', () => {
  const [first, second] = [bytes('é'), bytes('ü')]
  const { deltas } = run([], [first.slice(0, 1), Uint8Array.of(first[1]!, second[0]!), second.slice(1)])
  expect(deltas.map((delta) => [delta.text, delta.tokens])).toEqual([
    ['', 0],
    ['é', 1],
    ['ü', 2],
    ['', 0],
  ])
})

test('an unfinished character at the end becomes one replacement character', () => {
  const { text, tokens } = run([], [bytes('a'), bytes('🙂').slice(0, 3)])
  expect(text).toBe('a\ufffd')
  expect(tokens).toBe(2)
})

test('invalid UTF-8 does not delay the text after it', () => {
  expect(run([], [Uint8Array.of(0xff), bytes('ok')]).deltas[0]?.text).toBe('\ufffd')
  expect(run([], [Uint8Array.of(0xe2), bytes('ok')]).text).toBe('\ufffdok')
})

test('a byte order mark is text', () => {
  expect(run([], [bytes('\ufeffa')]).text).toBe('\ufeffa')
})

test('a stop string across three tokens is found, and no text of it or after it is released', () => {
  const result = run(['END'], [bytes('text E'), bytes('N'), bytes('D more')])
  expect(result.deltas.map((delta) => delta.text)).toEqual(['text ', '', '', ''])
  expect(result.stopped).toBe(true)
  // The first token is partly in the text; the other two are not.
  expect(result.tokens).toBe(1)
})

test('the start of a stop string that does not complete is released at once', () => {
  const result = run(['END'], [bytes('E'), bytes('N'), bytes('X')])
  expect(result.deltas.map((delta) => [delta.text, delta.tokens])).toEqual([
    ['', 0],
    ['', 0],
    ['ENX', 3],
    ['', 0],
  ])
  expect(result.stopped).toBe(false)
})

test('a failed start that contains another start holds back only the latter', () => {
  const result = run(['aab'], [bytes('aa'), bytes('a'), bytes('b')])
  expect(result.deltas.map((delta) => delta.text)).toEqual(['', 'a', '', ''])
  expect(result.stopped).toBe(true)
})

test('the first of several stop strings to be complete ends the text', () => {
  expect(run(['abc', 'b'], [bytes('ab')]).text).toBe('a')
  expect(run(['bc', 'abc'], [bytes('xabcx')]).text).toBe('x')
})

test('a held start is released at the end', () => {
  expect(run(['END'], [bytes('the E')]).text).toBe('the E')
})

test('a stop string of multi-byte characters is found across tokens that split characters', () => {
  const all = bytes('ja 你好 nein')
  const pieces = Array.from(all, (byte) => Uint8Array.of(byte))
  expect(run(['你好'], pieces).text).toBe('ja ')
})

test('any split of any text gives the same text, and every token is released exactly once', () => {
  const random = createRandom(7)
  const alphabet = ['a', 'b', 'é', '你', '🙂', '\u{1f468}\u{200d}\u{1f469}', ' ', '\n']
  for (let round = 0; round < 500; round++) {
    const text = Array.from(
      { length: 1 + Math.floor(random() * 30) },
      () => alphabet[Math.floor(random() * 8)],
    ).join('')
    const stop = Array.from(
      { length: 1 + Math.floor(random() * 3) },
      () => alphabet[Math.floor(random() * 8)],
    ).join('')
    const all = bytes(text)
    const pieces: Uint8Array[] = []
    for (let at = 0; at < all.length;) {
      const size = 1 + Math.floor(random() * 5)
      pieces.push(all.slice(at, at + size))
      at += size
    }
    const result = run([stop], pieces)
    const cut = text.indexOf(stop)
    expect(result.text, `round ${round}`).toBe(cut < 0 ? text : text.slice(0, cut))
    expect(result.stopped).toBe(cut >= 0)
    expect(result.tokens).toBeLessThanOrEqual(pieces.length)
    expect(result.tokens === pieces.length || cut >= 0).toBe(true)
  }
})

test('wholeCharacters cuts before an unfinished character only', () => {
  expect(wholeCharacters(bytes('aé'))).toBe(3)
  expect(wholeCharacters(bytes('aé').slice(0, 2))).toBe(1)
  expect(wholeCharacters(bytes('🙂').slice(0, 3))).toBe(0)
  expect(wholeCharacters(Uint8Array.of(0x80, 0x80, 0x80, 0x80))).toBe(4)
  expect(wholeCharacters(Uint8Array.of(0xff))).toBe(1)
})
