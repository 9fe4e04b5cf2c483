import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { readTextFile, splitIntoTexts } from '../../../../gpu-node/cli/input/text-file.ts'

const dir = mkdtempSync(join(tmpdir(), 'copal-text-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))

function write(bytes: Uint8Array | string): string {
  writeFileSync(join(dir, 'file.txt'), bytes)
  return 'file.txt'
}

describe('readTextFile', () => {
  test('keeps a replacement character that is in the file', () => {
    expect(readTextFile(write('a\uFFFDb'), dir)).toBe('a\uFFFDb')
  })

  test('drops a byte order mark', () => {
    expect(readTextFile(write('\uFEFFtext'), dir)).toBe('text')
  })

  test.each([
    { what: 'Latin-1', bytes: Buffer.from('caf\xe9 noir', 'latin1'), offset: 3 },
    {
      what: 'a wrong byte far into the text',
      bytes: Buffer.concat([Buffer.from('é🐳'.repeat(50_000)), Buffer.from([0xc3, 0x28])]),
      offset: 300_000,
    },
    { what: 'a lone continuation byte', bytes: [0x61, 0x80], offset: 1 },
    { what: 'a character cut at the end of the file', bytes: [0x61, 0x62, 0xe2, 0x82], offset: 2 },
    { what: 'an encoded surrogate', bytes: [0xed, 0xa0, 0x80], offset: 0 },
    { what: 'a wrong byte behind a true U+FFFD', bytes: [0xef, 0xbf, 0xbd, 0xc3, 0xa9, 0xff], offset: 5 },
  ])('refuses $what at offset $offset', ({ bytes, offset }) => {
    expect(() => readTextFile(write(Uint8Array.from(bytes)), dir)).toThrow(`at offset ${offset}.`)
  })

  test('says that a folder is not a file', () => {
    expect(() => readTextFile('.', dir)).toThrow('is a folder, a file is needed')
  })
})

describe('splitIntoTexts', () => {
  test('fills texts with whole paragraphs up to the wanted size', () => {
    expect(splitIntoTexts('one\n\ntwo\r\n\r\nthree\n\n\n\nfour', 8)).toEqual(['one\n\ntwo', 'three', 'four'])
  })

  test('splits a long paragraph between words without losing text', () => {
    const words = Array.from({ length: 400 }, (_, index) => `word${index}`)
    const texts = splitIntoTexts(words.join(' '), 100)
    expect(Math.max(...texts.map((text) => text.length))).toBeLessThanOrEqual(100)
    expect(texts.flatMap((text) => text.trim().split(/\s+/))).toEqual(words)
  })

  test('never splits a surrogate pair', () => {
    const texts = splitIntoTexts('🌲'.repeat(101), 33)
    expect(texts.join('').replaceAll(/\s/g, '')).toBe('🌲'.repeat(101))
    for (const text of texts) expect(text.isWellFormed()).toBe(true)
  })

  test('the bundled text gives enough texts for the first update', () => {
    const text = readFileSync(
      new URL('../../../../infra/local/start/texts/general.txt', import.meta.url),
      'utf8',
    )
    const texts = splitIntoTexts(text, 4000)
    expect(texts.length).toBeGreaterThan(40)
    expect(texts.join('').replaceAll(/\s/g, '')).toBe(text.replaceAll(/\s/g, ''))
  })
})
