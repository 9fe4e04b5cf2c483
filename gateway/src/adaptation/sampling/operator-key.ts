/** Key id of texts that an operator imported. */
export const OPERATOR_KEY_ID = 'operator'
