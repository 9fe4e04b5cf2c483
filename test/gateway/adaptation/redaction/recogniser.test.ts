import { expect, test, vi } from 'vitest'
import { createRecogniser, recogniserUrl } from '../../../../gateway/src/adaptation/redaction/recogniser.ts'
import { recogniseTexts } from '../../../../gateway/src/adaptation/redaction/recognise-texts.ts'

const url = new URL('https://recogniser.example/spans')
type Send = (url: URL, init: RequestInit) => Promise<Response>
const answering = (body: unknown, status = 200) =>
  vi.fn<Send>(() =>
    Promise.resolve(new Response(typeof body === 'string' ? body : JSON.stringify(body), { status })),
  )

test('spans are in code points and replaced by their class', async () => {
  const send = answering({ spans: [[{ start: 3, end: 7, label: 'name' }], []] })
  const recogniser = createRecogniser({ url, token: 'secret-token' }, send)
  expect(await recogniseTexts(recogniser, ['🙂🙂 Jane!', 'none'])).toEqual(['🙂🙂 [name]!', 'none'])
  const [to, init] = send.mock.calls[0] ?? []
  expect(to).toBe(url)
  expect(init?.headers).toMatchObject({ authorization: 'Bearer secret-token' })
  expect(JSON.parse(init?.body as string)).toEqual({ texts: ['🙂🙂 Jane!', 'none'] })
})

test('spans that overlap are joined', async () => {
  const spans = [
    { start: 5, end: 9, label: 'address' },
    { start: 0, end: 6, label: 'name' },
  ]
  const recogniser = createRecogniser({ url }, answering({ spans: [spans] }))
  expect(await recogniseTexts(recogniser, ['abcdefghij'])).toEqual(['[name]j'])
})

test('many texts are sent in several calls, in order', async () => {
  const send = vi.fn<Send>((_url, init) => {
    const { texts } = JSON.parse(init.body as string) as { texts: string[] }
    return Promise.resolve(Response.json({ spans: texts.map(() => [{ start: 0, end: 1, label: 'other' }]) }))
  })
  const texts = Array.from({ length: 70 }, (_, index) => `x${index}`)
  const recognised = await recogniseTexts(createRecogniser({ url }, send), texts)
  expect(recognised).toEqual(texts.map((_, index) => `[other]${index}`))
  expect(send).toHaveBeenCalledTimes(3)
  send.mockClear()
  await recogniseTexts(createRecogniser({ url }, send), ['y'.repeat(100_000), 'y'.repeat(100_000)])
  expect(send).toHaveBeenCalledTimes(2)
})

test.each([
  ['another status', answering('Jane', 500)],
  ['a redirect', answering('', 302)],
  ['no JSON', answering('Jane')],
  ['another shape', answering({ spans: [[{ start: 0, end: 2, label: 'Jane' }]] })],
  ['too few lists', answering({ spans: [] })],
  ['a span outside of the text', answering({ spans: [[{ start: 0, end: 9, label: 'name' }]] })],
  ['an empty span', answering({ spans: [[{ start: 2, end: 2, label: 'name' }]] })],
  ['more than a mebibyte', answering(`{"spans":[[]],"x":"${'J'.repeat(1_100_000)}"}`)],
  ['no response', vi.fn<Send>(() => Promise.reject(new TypeError('Jane')))],
])('%s is an error that quotes no text', async (_, send) => {
  const error = await recogniseTexts(createRecogniser({ url }, send), ['Jane']).catch(
    (thrown: unknown) => thrown,
  )
  expect(error).toMatchObject({ code: 'service_unavailable' })
  expect(String(error)).not.toContain('Jane')
})

test.each([
  ['https://recogniser.example/spans', true],
  ['http://127.0.0.1:5002/', true],
  ['http://localhost:5002/', true],
  ['http://[::1]:5002/', true],
  ['http://recogniser.example/', false],
  ['http://127.0.0.1.example/', false],
  ['https://user:password@recogniser.example/', false],
  ['ftp://localhost/', false],
  ['recogniser', false],
])('the address %s is allowed: %s', (address, allowed) => {
  expect(recogniserUrl(address) !== undefined).toBe(allowed)
})
