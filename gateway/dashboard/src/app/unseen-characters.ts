import { Fragment, options } from 'preact'
import { replaceUnseen } from '../format/unseen-characters.ts'

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
