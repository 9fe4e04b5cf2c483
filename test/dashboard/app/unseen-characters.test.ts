import { Fragment, h, type VNode } from 'preact'
import { onTestFinished, expect, test } from 'vitest'
import { showUnseenCharacters } from '../../../gateway/dashboard/src/app/unseen-characters.ts'

const NAME = 'safe\u202eelif\u200b'
const SHOWN = 'safe\ufffdelif\ufffd'

test('texts and attributes of others show characters that are not seen, and values keep them', () => {
  onTestFinished(showUnseenCharacters())
  const onClick = () => undefined
  const inner: VNode = h('b', null, 'x')
  const props = h(
    'p',
    { title: NAME, 'aria-label': NAME, 'data-id': NAME, onClick },
    NAME,
    [7, NAME],
    inner,
  ).props
  expect(props).toEqual({
    title: SHOWN,
    'aria-label': SHOWN,
    'data-id': NAME,
    onClick,
    children: [SHOWN, [7, SHOWN], inner],
  })
  expect(h(Fragment, null, NAME).props.children).toBe(SHOWN)
  expect(h('input', { value: NAME }).props).toEqual({ value: NAME })
})

test('components get what they are given, and show it in elements', () => {
  onTestFinished(showUnseenCharacters())
  const Name = ({ name }: { name: string }) => h('b', null, name)
  expect(h(Name, { name: NAME }).props).toEqual({ name: NAME })
  expect(Name({ name: NAME }).props.children).toBe(SHOWN)
})
