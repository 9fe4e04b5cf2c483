import { Fragment, options, type VNode } from 'preact'
import { visibleText } from '@copal/shared/visible-text.ts'

/** Attributes that people see or hear. */
const TEXT_ATTRIBUTES = ['title', 'aria-label', 'alt', 'placeholder', 'label']

/**
 * Shows `�` for characters that are not seen but change what is, in every text and attribute of the page. Names of keys and texts come
 * from others: a right-to-left override would show the rest of a sentence backwards. Values of fields, exports and calls keep them.
 *
 * @returns a function that ends this
 */
export function showUnseenCharacters(): () => void {
  const before = options.vnode
  options.vnode = (vnode) => {
    if (typeof vnode.type === 'string' || vnode.type === Fragment) replaceIn(vnode.props)
    before?.(vnode)
  }
  return () => {
    if (before) options.vnode = before
    else delete options.vnode
  }
}

function replaceIn(props: VNode['props'] & Record<string, unknown>): void {
  if (props.children !== undefined) props.children = visible(props.children) as typeof props.children
  for (const name of TEXT_ATTRIBUTES) if (name in props) props[name] = visible(props[name])
}

function visible(value: unknown): unknown {
  if (typeof value === 'string') return visibleText(value, '\ufffd', { lines: true })
  return Array.isArray(value) ? value.map(visible) : value
}
