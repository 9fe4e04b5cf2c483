import { describe, expect, test } from 'vitest'
import { renderTable } from '../../../../gpu-node/cli/output/table.ts'

interface Row {
  name: string
  count: number
}
const columns = [
  { title: 'NAME', value: (row: Row) => row.name, shrinks: true },
  { title: 'COUNT', value: (row: Row) => String(row.count), align: 'right' as const },
]

describe('renderTable', () => {
  test('aligns numbers right and leaves no trailing blanks', () => {
    const rows = [
      { name: 'a', count: 5 },
      { name: 'longer', count: 12345 },
    ]
    expect(renderTable(columns, rows, 80)).toBe('NAME    COUNT\na           5\nlonger  12345')
  })

  test('cuts columns that may shrink with an ellipsis when the line is too short', () => {
    const rows = [{ name: 'x'.repeat(100), count: 7 }]
    const lines = renderTable(columns, rows, 40).split('\n')
    expect(lines.map((line) => line.length)).toEqual([40, 40])
    expect(lines[1]).toMatch(/^x{16}…x{16}      7$/)
  })

  test('gives a name the room that a second table leaves, and cuts what does not fit beside it', () => {
    const device = { title: 'DEVICE', value: () => 'd'.repeat(64) }
    const rows = [{ name: `${'n'.repeat(29)}1`, count: 7 }]
    expect(renderTable([...columns, device], rows, 80).split('\n')).toEqual([
      expect.stringMatching(/^NAME {10} {2}COUNT$/),
      expect.stringMatching(/^n{7}…n{5}1 {2} {4}7$/),
      '',
      expect.stringMatching(/^NAME/),
      expect.stringMatching(/^n{7}…n{5}1 {2}d{64}$/),
    ])
    const narrow = renderTable([...columns, device], rows, 40).split('\n')
    expect(Math.max(...narrow.map((line) => line.length))).toBe(40)
    expect(narrow.at(-1)).toMatch(/^n{4}…n{2}1 {2}d{29}…$/)
  })

  test('cuts nothing where a second table is needed anyway, and a long first column beside a longer one', () => {
    const row = { name: 'a name of thirty characters xx', count: 7 }
    const wide = [
      { title: 'KEY', value: () => 'k'.repeat(36) },
      { title: 'NAME', value: (each: Row) => each.name },
      { title: 'SCOPES', value: () => 'inference,read-metrics', shrinks: true },
      { title: 'LIMITS', value: () => 'l'.repeat(30), shrinks: true },
    ]
    const text = renderTable(wide, [row], 80)
    expect(text).not.toContain('…')
    expect(text.split('\n\n')).toHaveLength(3)
    const [, line] = renderTable(
      [
        { title: 'NAME', value: () => 'n'.repeat(60), shrinks: true },
        { title: 'TERMS', value: () => 't'.repeat(90), shrinks: true },
        { title: 'FOUND', value: () => 'f'.repeat(62) },
      ],
      [row],
      80,
    ).split('\n')
    expect(line).toMatch(/^n{8}…n{7} {2}t+…$/)
  })

  test('leaves out columns without any value, but for a pipe, whose columns programs count', () => {
    const reason = { title: 'REASON', value: ({ name }: Row) => (name === 'b' ? 'why' : '') }
    const rows = [{ name: 'a', count: 7 }]
    expect(renderTable([...columns, reason], rows, 80)).toBe('NAME  COUNT\na         7')
    expect(renderTable([...columns, reason], rows, Infinity)).toContain('REASON')
    expect(renderTable([...columns, reason], [...rows, { name: 'b', count: 1 }], 80)).toContain('REASON')
  })

  test('puts columns that do not fit into a second table that repeats the first column', () => {
    const many = Array.from({ length: 12 }, (_, index) => ({ title: `DOMAIN${index}`, value: () => '123.4' }))
    const text = renderTable(
      [{ title: 'MASK', value: (row: Row) => row.name }, ...many],
      [{ name: 'm1', count: 0 }],
      60,
    )
    const lines = text.split('\n')
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(60)
    expect(lines.filter((line) => line.startsWith('MASK'))).toHaveLength(2)
    expect(lines.filter((line) => line.startsWith('m1'))).toHaveLength(2)
    for (const { title } of many) expect(text).toContain(title)
  })

  test('aligns and cuts names of Chinese characters and emoji by the columns that they take', () => {
    const rows = [
      { name: '法律文書', count: 5 },
      { name: 'cafe\u0301 👩‍👩‍👧', count: 12345 },
    ]
    expect(renderTable(columns, rows, 80).split('\n')).toEqual([
      'NAME      COUNT',
      '法律文書      5',
      'cafe\u0301 👩‍👩‍👧   12345',
    ])
    // Wide characters that would be cut in half are left out, and blanks stand in their place.
    expect(renderTable(columns, [{ name: '法律文書の分類', count: 7 }], 18).split('\n')).toEqual([
      'NAME         COUNT',
      '法律…分類        7',
    ])
  })

  test('shows no characters that would reverse the order of the rest of a row', () => {
    const rows = [{ name: 'a\u202eb\u2066c', count: 5 }]
    expect(renderTable(columns, rows, 80).split('\n')[1]).toBe('a?b?c      5')
  })

  test('shows no control characters, by which names of others could write to the terminal', () => {
    const rows = [{ name: 'a\x1b[2Jb\nc\x9bd', count: 5 }]
    expect(renderTable(columns, rows, 80).split('\n')[1]).toBe('a?[2Jb?c?d      5')
  })
})
