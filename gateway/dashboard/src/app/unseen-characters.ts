import { Fragment, options } from 'preact'
import { visibleText } from '@copal/shared/visible-text.ts'

/** Attributes that people see or hear. */
const TEXT_ATTRIBUTES = ['title', 'aria-label', 'alt', 'placeholder', 'label']

/**
 * Shows `�` for characters that are not seen but change what is, in every text and attribute of the page. Names of keys and texts come
 * from others: a right-to-left override would show the rest of a sentence backwards. Values of fields, exports and calls keep them.
 */
export function showUnseenCharacters(): void {
  const before = { ...options }
  options.vnode = (vnode) => {
    if (typeof vnode.type === 'string' || vnode.type === Fragment) replaceUnseen(vnode.props)
    before.vnode?.(vnode)
  }
}

/** Replaces these characters in the texts and attributes of an element. */
export function replaceUnseen(props: Record<string, unknown>): void {
  for (const name of ['children', ...TEXT_ATTRIBUTES]) if (name in props) props[name] = visible(props[name])
}

function visible(value: unknown): unknown {
  if (typeof value === 'string') return visibleText(value, '\ufffd', { lines: true })
  return Array.isArray(value) ? value.map(visible) : value
}
