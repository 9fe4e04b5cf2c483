import { expect, test } from 'vitest'
import { replaceUnseen } from '../../../gateway/dashboard/src/format/unseen-characters.ts'

const NAME = 'safe\u202eelif\u200b'
const SHOWN = 'safe\ufffdelif\ufffd'

test('texts and attributes of others show characters that are not seen, and values keep them', () => {
  const element = { type: 'b', props: { children: NAME } }
  const onClick = () => undefined
  const props = {
    title: NAME,
    'aria-label': NAME,
    'data-id': NAME,
    value: NAME,
    onClick,
    children: [NAME, [7, NAME], element, `a\n${NAME}`],
  }
  replaceUnseen(props)
  expect(props).toEqual({
    title: SHOWN,
    'aria-label': SHOWN,
    'data-id': NAME,
    value: NAME,
    onClick,
    // An element has replaced its own.
    children: [SHOWN, [7, SHOWN], element, `a\n${SHOWN}`],
  })
})

test('an element without texts stays as it is', () => {
  const props = { value: NAME }
  replaceUnseen(props)
  expect(props).toEqual({ value: NAME })
})
