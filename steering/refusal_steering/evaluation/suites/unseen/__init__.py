"""Families of wording that no calibration meets, in three parts.

The open half may be looked at while a gate is developed. The closed half was kept for the end of
the first gate. The sealed part was written when the data of the second one were fixed, and is asked
once, at its end. Items are held-out ones of the contrast set, other ones in each half; the sealed
part has those of the closed half in other wordings, and another language.
"""
